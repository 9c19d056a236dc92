"""The audio net: what must not change its mind, and that its graph says what torch says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from avfake.models.audio import WINDOW_SAMPLES, AudioNet, LogSpectrum  # noqa: E402

SMALL = {"width": 48, "layers": 1, "heads": 2, "mlp": 48}


@pytest.fixture(scope="module")
def net() -> AudioNet:
    torch.manual_seed(0)
    return AudioNet(**SMALL).eval()


def _tone(hertz: float, amplitude: float = 0.1) -> torch.Tensor:
    time = torch.arange(WINDOW_SAMPLES) / 16_000
    return amplitude * torch.sin(2 * torch.pi * hertz * time)[None]


def test_a_tone_is_loudest_in_the_bin_of_its_frequency() -> None:
    front = LogSpectrum()
    for hertz in (300.0, 1500.0, 4000.0, 7500.0):
        # Half tone, half silence: bins are centred over time, so that only a change shows.
        sound = _tone(hertz)
        sound[:, WINDOW_SAMPLES // 2 :] = 0
        log = front(sound)[0, 0]
        contrast = log[:, 20:140].mean(1) - log[:, 180:300].mean(1)
        assert abs(int(contrast.argmax()) * 31.25 - hertz) < 32


def test_loudness_and_offset_do_not_change_the_logit(net: AudioNet) -> None:
    (sound,) = AudioNet.example(2)
    with torch.no_grad():
        (plain,), (quiet,), (shifted,) = net(sound), net(0.02 * sound), net(sound + 0.3)
    assert torch.allclose(plain, quiet, atol=1e-3)
    assert torch.allclose(plain, shifted, atol=1e-3)


def test_a_steady_filter_is_taken_out() -> None:
    front = LogSpectrum()
    (sound,) = AudioNet.example(1)
    sound = sound * torch.linspace(0.2, 1, WINDOW_SAMPLES)
    duller = torch.nn.functional.pad(sound, (1, 0))[:, :-1] * 0.5 + sound
    log, dull = front(sound)[:, 0], front(duller)[:, 0]
    assert (log - dull).abs().mean() < 0.1 * log.abs().mean()


def test_silence_has_a_finite_logit(net: AudioNet) -> None:
    with torch.no_grad():
        (logit,) = net(torch.zeros(1, WINDOW_SAMPLES))
    assert logit.shape == (1,)
    assert torch.isfinite(logit).all()


def test_masking_is_for_training_only(net: AudioNet) -> None:
    (sound,) = AudioNet.example(1)
    with torch.no_grad():
        assert torch.equal(net(sound)[0], net(sound)[0])
        noisy = AudioNet(**SMALL, drop=0.0, mask=0.5).train()
        assert not torch.equal(noisy(sound)[0], noisy(sound)[0])


def test_the_graph_agrees_with_torch_for_any_batch(net: AudioNet, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "audio.onnx"
    torch.onnx.export(
        net,
        AudioNet.example(2),
        path,
        input_names=list(AudioNet.INPUTS),
        output_names=list(AudioNet.OUTPUTS),
        dynamic_shapes={"sound": {0: torch.export.Dim("batch")}},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        (sound,) = AudioNet.example(batch)
        sound[0] = _tone(440.0)[0]
        (logit,) = session.run(["logit"], {"sound": sound.numpy()})
        assert logit.shape == (batch,)
        with torch.no_grad():
            np.testing.assert_allclose(logit, net(sound)[0].numpy(), atol=1e-3)


def test_the_default_net_fits_the_bundle() -> None:
    net = AudioNet()
    tensors = [*net.parameters(), *net.buffers()]
    assert sum(tensor.numel() for tensor in tensors) * 4 < 6.5e6
