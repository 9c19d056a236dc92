"""The lip-sync recipe on people who are a blob: its height follows the loudness of its sound."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from avfake.crops import mouth_crop
from avfake.models.lipsync import LipSyncNet
from training import lipsync_trials
from training.lipsync import CONFIGS, contrast, info_nce, load_light_asd, train
from training.lipsync_data import (
    ClipBatches,
    Framing,
    Tracks,
    at_speed,
    mouth_clip,
    through_h264,
    worn_mouths,
    worn_sound,
)
from training.loop import Schedule
from training.prepare import TRACK_COLUMNS


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums over several threads are not the same to the bit each time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def loudness(seed: int, frames: int) -> np.ndarray:
    """A smooth random curve in [0, 1], one value a frame."""
    noise = np.random.default_rng(seed).standard_normal(frames + 8)
    curve = np.convolve(noise, np.ones(4) / 4, "same")[4:-4]
    return (curve - curve.min()) / (curve.max() - curve.min())


def blob_person(seed: int, frames: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """(faces uint8 [frames, 144, 144], sound float32 [frames * 640]): louder is taller."""
    curve = loudness(seed, frames)
    faces = np.full((frames, 144, 144), 60, np.uint8)
    for face, height in zip(faces, curve, strict=True):
        cv2.ellipse(face, (72, 95), (20, int(3 + 20 * height)), 0, 0, 360, 220, -1)
    rng = np.random.default_rng(seed)
    # Hoarse vowels: a pulse train with noise, which voice detectors take for speech.
    time = np.arange(frames * 640) / 16000
    voice = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 30))
    level = np.interp(np.arange(frames * 640) / 640, np.arange(frames) + 0.5, curve)
    sound = 0.15 * voice * level + 0.002 * rng.standard_normal(frames * 640)
    return faces, sound.astype(np.float32)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten blob people, one of them on dev as real and one as fake."""
    root = tmp_path_factory.mktemp("prepared")
    (root / "tracks").mkdir()
    rows = []
    for number in range(12):
        faces, sound = blob_person(number)
        path = f"tracks/{number}.npz"
        np.savez(root / path, faces=faces, sound=sound)
        split = "dev" if number > 9 else "train"
        source = "dev/clips" if number > 9 else "talking/blobs"
        label = int(number == 11)
        rows.append(
            [path, split, label, f"blob-{number}", source, f"{number}.mp4", len(faces), 0.0]
        )
    pd.DataFrame(rows, columns=TRACK_COLUMNS).to_csv(root / "tracks.csv", index=False)
    return root


def test_no_group_is_on_two_sides(prepared: Path) -> None:
    parts = [set(tracks.table["group"]) for tracks in Tracks.load(prepared).split()]
    assert all(parts)
    assert sum(map(len, parts)) == len(set().union(*parts)) == 12


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tracks.csv").write_text("path,split\n")
    with pytest.raises(ValueError, match="lacks the columns"):
        Tracks.load(tmp_path)


def test_the_mouth_is_cut_as_inference_cuts_it() -> None:
    rng = np.random.default_rng(0)
    context = cv2.GaussianBlur(rng.integers(0, 256, (144, 144), np.uint8), (0, 0), 2)
    # The context is 1.5 box sizes wide, so the box is 96 pixels wide in its middle.
    box = np.array([24, 24, 120, 120], np.float32)
    expected = mouth_crop(context, box, 112).astype(int)
    assert np.abs(mouth_clip(context[None])[0] - expected).max() <= 2


def test_a_drawn_framing_stays_near_and_mirrors() -> None:
    faces, _ = blob_person(0, 3)
    plain = mouth_clip(faces).astype(int)
    mirrored = mouth_clip(faces, Framing(mirror=True)).astype(int)
    np.testing.assert_array_equal(mirrored, plain[:, :, ::-1])
    for seed in range(20):
        framing = Framing.draw(np.random.default_rng(seed))
        assert abs(np.log(framing.scale)) <= 0.12
        assert max(abs(framing.right), abs(framing.down)) <= 0.06


def test_wear_keeps_shape_and_the_order_of_frames() -> None:
    faces, sound = blob_person(1, 30)
    mouths = mouth_clip(faces)
    bright = mouths.mean((1, 2))
    for seed in range(12):
        worn = worn_mouths(mouths, np.random.default_rng(seed))
        assert worn.shape == mouths.shape
        assert worn.dtype == np.uint8
        assert np.corrcoef(worn.mean((1, 2)), bright)[0, 1] > 0.9
        heard = worn_sound(sound, sound[::-1].copy(), np.random.default_rng(seed))
        assert heard.shape == sound.shape
        levels = [np.square(wave).reshape(30, 640).mean(1) ** 0.5 for wave in (sound, heard)]
        assert np.corrcoef(levels)[0, 1] > 0.5


def test_h264_returns_every_picture() -> None:
    mouths = mouth_clip(blob_person(2, 20)[0])
    coded = through_h264(mouths, crf=23)
    assert coded.shape == mouths.shape
    assert 0 < np.abs(coded.astype(int) - mouths).mean() < 3


def test_speed_changes_both_alike() -> None:
    faces, sound = blob_person(3, 100)
    fast_faces, fast_sound = at_speed(faces, sound, 1.1, 80)
    assert len(fast_faces) * 640 == len(fast_sound) == 80 * 640
    height = fast_faces.mean((1, 2))
    level = np.sqrt((fast_sound.reshape(80, 640) ** 2).mean(1))
    assert np.corrcoef(height, level)[0, 1] > 0.9


def test_batches_repeat_and_say_how_late_the_sound_is(prepared: Path) -> None:
    tracks, _, _ = Tracks.load(prepared).split()
    batches = ClipBatches(tracks, clips=4, frames=40, steps=3)
    for ours, again in zip(batches[2], ClipBatches(tracks, 4, 40, 3)[2], strict=True):
        assert torch.equal(ours, again)
    agreements = []
    for step in range(3):
        mouths, sound, lengths, late = batches[step]
        assert mouths.shape == (4, 40, 112, 112)
        assert lengths.tolist() == [40] * 4
        level = sound.view(4, 40, 640).square().mean(2).sqrt()
        height = mouths.float().mean((2, 3))
        for clip, shift in enumerate(late.tolist()):
            t = np.arange(max(0, -shift), 40 - max(0, shift))
            pair = np.stack([height[clip, t].numpy(), level[clip, t + shift].numpy()])
            agreements.append(np.corrcoef(pair)[0, 1])
    assert np.median(np.abs(agreements)) > 0.8


def test_info_nce_knows_the_right_answer() -> None:
    story = F.normalize(torch.randn(2, 30, 32, generator=torch.Generator().manual_seed(0)), dim=-1)
    shown, heard = story[:, 5:25], story[:, 3:23]  # heard two later
    lengths, sharp = torch.tensor([20, 12]), torch.tensor(4.0)
    right = info_nce(shown, heard, lengths, torch.tensor([2, 2]), sharp)
    wrong = info_nce(shown, heard, lengths, torch.tensor([0, 0]), sharp)
    assert right < 0.1 < 3 < wrong
    # What lies beyond a clip's length has no say.
    heard = heard.clone()
    heard[1, 12:] = shown[1, :8]
    torch.testing.assert_close(info_nce(shown, heard, lengths, torch.tensor([2, 2]), sharp), right)


def test_light_asd_keys_find_their_layers(tmp_path: Path) -> None:
    shapes = {}
    for encoder, space, tail in (("visualEncoder", "s", (1,)), ("audioEncoder", "m", ())):
        for block, (inputs, outputs) in enumerate(((1, 32), (32, 64), (64, 128)), start=1):
            layers = {"last": (outputs, outputs, 1, 1, *tail)}
            for k in (3, 5):
                if encoder == "visualEncoder":
                    layers[f"{space}_{k}"] = (outputs, inputs, 1, k, k)
                    layers[f"t_{k}"] = (outputs, outputs, k, 1, 1)
                else:
                    layers[f"{space}_{k}"] = (outputs, inputs, k, 1)
                    layers[f"t_{k}"] = (outputs, outputs, 1, k)
            for layer, shape in layers.items():
                name = f"model.{encoder}.block{block}"
                shapes[f"{name}.{layer}.weight"] = shape
                for field in ("weight", "bias", "running_mean", "running_var"):
                    shapes[f"{name}.bn_{layer}.{field}"] = (outputs,)
                shapes[f"{name}.bn_{layer}.num_batches_tracked"] = ()
    generator = torch.Generator().manual_seed(0)
    theirs = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    save_file(theirs, tmp_path / "theirs.safetensors")
    net = LipSyncNet()
    load_light_asd(net, tmp_path / "theirs.safetensors")
    # Spot checks that hold the meaning: path, block and layer of one key of each kind.
    for mine, name in (
        (net.mouth.blocks[1].space[1][0].weight[:, :, None], "visualEncoder.block2.s_5.weight"),
        (net.mouth.blocks[2].time[0][0].weight[..., None], "visualEncoder.block3.t_3.weight"),
        (net.sound.blocks[0].mix[1].running_var, "audioEncoder.block1.bn_last.running_var"),
        (net.sound.blocks[2].time[1][0].weight, "audioEncoder.block3.t_5.weight"),
    ):
        torch.testing.assert_close(mine, theirs[f"model.{name}"])


def test_wrong_sounds_are_wrong_and_right_ones_right(prepared: Path) -> None:
    tracks, _, _ = Tracks.load(prepared).split()
    talk = lipsync_trials.Talk.of(*tracks.read(0))
    start = int(talk.starts[0])
    height = talk.mouths(start).mean((1, 2))

    def best_lag(sound: np.ndarray) -> int:
        level = np.sqrt((sound.reshape(50, 640) ** 2).mean(1))
        lags = range(-8, 9)
        return max(lags, key=lambda k: np.corrcoef(height[8:42], level[8 + k : 42 + k])[0, 1])

    # `heard(start, late)` is late by so many frames: what is seen at t is heard at t + late.
    assert best_lag(talk.heard(start, 4)) == 4
    assert best_lag(talk.heard(start, -3)) == -3
    late = lipsync_trials.wandering(np.random.default_rng(0))
    assert late.max() - late.min() >= 4


SCHEDULE = Schedule(steps=3, lr=3e-3, warmup=1, evaluate_every=2, workers=0)
TINY = replace(CONFIGS["debug"], heads=SCHEDULE, towers=SCHEDULE, judge=SCHEDULE)


def test_a_few_steps_lower_the_loss(prepared: Path) -> None:
    tracks, _, _ = Tracks.load(prepared).split()
    torch.manual_seed(0)
    net = LipSyncNet(dropout=0.0)
    batch = ClipBatches(tracks, clips=2, frames=26, steps=1)[0]
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        loss = contrast(net, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_a_stopped_run_ends_where_an_unbroken_one_does(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    metrics = train(prepared, whole, TINY)

    batch_of = ClipBatches.__getitem__

    def stop_at_the_last(batches: ClipBatches, step: int) -> tuple[torch.Tensor, ...]:
        if step == TINY.towers.steps - 1:
            raise KeyboardInterrupt
        return batch_of(batches, step)

    with monkeypatch.context() as patch:
        patch.setattr(ClipBatches, "__getitem__", stop_at_the_last)
        with pytest.raises(KeyboardInterrupt):
            train(prepared, halved, TINY)
    assert not (halved / "best.safetensors").exists()
    train(prepared, halved, TINY)
    assert "resumed_at" in (halved / "towers" / "log.jsonl").read_text()
    state = load_file(whole / "best.safetensors")
    for name, value in load_file(halved / "best.safetensors").items():
        assert torch.equal(value, state[name]), name

    held = pd.read_csv(whole / "heldout.csv")
    assert list(held.columns) == ["path", "group", "source", "label", "logit"]
    assert {"in-sync", "other-clip", "wandering", "dev-real", "dev-fake"} <= set(held["source"])
    assert np.isfinite(held["logit"]).all()
    assert (held["label"] == 0).eq(held["source"].isin(["in-sync", "dev-real"])).all()
    assert metrics == json.loads((whole / "metrics.json").read_text())
    assert metrics["mismatch"]["n"] == int((~held["source"].str.startswith("dev-")).sum())


@pytest.mark.slow
def test_torchrun_trains_it_in_two_processes(prepared: Path, tmp_path: Path) -> None:
    words = f"--prepared {prepared} --out {tmp_path} --config debug --device cpu --threads 1 --bf16"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "training.lipsync", *words.split()],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tracks: ") == 1  # the second process says nothing
    for stage in ("towers", "."):
        header = (tmp_path / stage / "log.jsonl").read_text().splitlines()[0]
        assert json.loads(header)["runtime"]["world"] == 2
    assert (tmp_path / "metrics.json").exists()
