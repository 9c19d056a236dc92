"""The lip-sync net: its cepstrum, what its offsets mean, and that ONNX says what torch says."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import scipy.fft
import torch
from torch import Tensor
from torch.nn import functional as F

from avfake.models.lipsync import LipSyncNet, Mfcc, lag_map, lag_similarity, peak


def numpy_mfcc(sound: np.ndarray) -> np.ndarray:
    """float [n * 160] in 16-bit units -> [13, n]: the definition, frame by frame, with FFTs."""
    emphasised = np.append(sound[0], sound[1:] - 0.97 * sound[:-1])
    emphasised = np.append(emphasised, np.zeros(240))
    hertz = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 28) / 2595) - 1)
    edges = np.floor(513 * hertz / 16000).astype(int)
    columns = []
    for start in range(0, len(sound), 160):
        power = np.abs(np.fft.rfft(emphasised[start : start + 400], 512)) ** 2 / 512
        bands = np.zeros(26)
        for band, (left, middle, right) in enumerate(
            zip(edges[:-2], edges[1:-1], edges[2:], strict=True)
        ):
            for k in range(left, middle):
                bands[band] += power[k] * (k - left) / (middle - left)
            for k in range(middle, right):
                bands[band] += power[k] * (right - k) / (right - middle)
        cepstrum = scipy.fft.dct(np.log(bands), type=2, norm="ortho")[:13]
        cepstrum *= 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
        cepstrum[0] = np.log(power.sum())
        columns.append(cepstrum)
    return np.array(columns).T


def spoken(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise and a gliding tone with a changing level, float32 in [-1, 1]."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16000)) / 16000
    tone = np.sin(2 * np.pi * (200 + 300 * time) * time) * np.sin(5 * time) ** 2
    return (0.3 * tone + 0.02 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def net() -> LipSyncNet:
    """Random weights whose normalisations have seen something, so that all outputs vary."""
    torch.manual_seed(0)
    net = LipSyncNet()
    for layer in net.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.momentum = 1.0
    mouths, sound = net.example(2)
    with torch.no_grad():
        net(mouths[:, :30], sound[:, : 30 * 640])
    return net.eval()


def test_the_cepstrum_is_that_of_its_definition() -> None:
    sound = spoken(0.4)
    ours = Mfcc()(torch.from_numpy(sound)[None])[0].numpy()
    np.testing.assert_allclose(ours, numpy_mfcc(sound.astype(float) * 32768), atol=2e-2)


def test_the_cepstrum_of_silence_is_finite() -> None:
    assert torch.isfinite(Mfcc()(torch.zeros(1, 1600))).all()


def directions(frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(1, frames, 64, generator=generator), dim=-1)


@pytest.mark.parametrize("late", [-15, -4, 0, 1, 9])
def test_a_late_sound_has_a_positive_offset(late: int) -> None:
    # What the mouth does at t is heard at t + late.
    story = directions(90)
    mouths, sounds = story[:, 20:70], story[:, 20 - late : 70 - late]
    offset, confidence = peak(lag_similarity(lag_map(mouths, sounds, 15)))
    assert offset.item() == pytest.approx(late, abs=0.01)
    assert confidence.item() > 0.8


def test_lag_map_is_the_table_of_cosines() -> None:
    mouths, sounds = directions(12, 1), directions(12, 2)
    lags = lag_map(mouths, sounds, 3)
    for t in range(12):
        for k in range(-3, 4):
            expected = mouths[0, t] @ sounds[0, t + k] if 0 <= t + k < 12 else torch.tensor(0.0)
            torch.testing.assert_close(lags[0, t, k + 3], expected)


def test_similarity_counts_only_frames_that_overlap() -> None:
    same = torch.ones(1, 20, 1)
    torch.testing.assert_close(lag_similarity(lag_map(same, same, 15)), torch.ones(1, 31))


def test_the_judge_sees_no_constant_offset_but_a_broken_one(net: LipSyncNet) -> None:
    story = directions(90)
    mouths = story[:, 20:70]

    def traits(sounds: Tensor) -> Tensor:
        return net.traits(mouths, sounds)[0]

    in_time, late = traits(mouths), traits(story[:, 16:66])
    broken = traits(torch.cat([story[:, 16:41], story[:, 55:80]], 1))
    wrong = traits(directions(50, 5))
    # Only what the ends of the clip lack may differ.
    assert (in_time - late).abs().max() < 0.2
    doubt_between_stretches = 4
    assert broken[doubt_between_stretches] > late[doubt_between_stretches] + 0.3
    confidence = 1
    assert wrong[confidence] < 0.3 * late[confidence]


@torch.inference_mode()
def test_towers_keep_time(net: LipSyncNet) -> None:
    """A change in the input shows in the features of that time, and nowhere far from it."""
    mouths, sound = net.example(1)
    changed_mouths, changed_sound = mouths.clone(), sound.clone()
    changed_mouths[:, 25] = 255 - changed_mouths[:, 25]
    changed_sound[:, 25 * 640 : 26 * 640] = 0
    for tower, before, after in (
        (net.mouth, mouths, changed_mouths),
        (net.sound, sound, changed_sound),
    ):
        moved = (tower(before) - tower(after)).abs().amax(2)[0]
        assert len(moved) == 50
        assert moved[25] > 1e-3
        assert moved[:15].max() == 0
        assert moved[36:].max() == 0


@torch.inference_mode()
def test_onnx_says_what_torch_says(net: LipSyncNet, tmp_path: Path) -> None:
    path = tmp_path / "lipsync.onnx"
    clips, frames = torch.export.Dim("clips"), torch.export.Dim("frames", min=26)
    torch.onnx.export(
        net,
        net.example(2),
        path,
        input_names=net.INPUTS,
        output_names=net.OUTPUTS,
        dynamic_shapes=({0: clips, 1: frames}, {0: clips, 1: 640 * frames}),
        dynamo=True,
        external_data=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch, length in ((1, 50), (3, 50), (1, 77)):
        mouths = net.example(batch)[0].repeat(1, 2, 1, 1)[:, :length]
        # A pure tone leaves bands empty: rounding must not get into the logarithms.
        sound = torch.from_numpy(spoken(length / 25)).expand(batch, -1).clone()
        sound[-1] = torch.sin(torch.arange(sound.shape[1]) * 0.3)
        found = session.run(net.OUTPUTS, {"mouths": mouths.numpy(), "sound": sound.numpy()})
        assert [value.shape for value in found] == [(batch, 31), (batch,), (batch,), (batch,)]
        for ours, theirs in zip(net(mouths, sound), found, strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-3)
