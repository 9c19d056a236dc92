"""What was forged is seen by laying a fake on its original, through codecs and a late sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from avfake.faces import DlibFinder
from avfake.types import AvfakeError
from tests.clips import moving_portrait, texture, write_clip
from tests.training.voices import voice
from training.compare import Comparer, Pair, best_shift, compare, residual_db

SECONDS = 4.0


def swapped(frames: np.ndarray, boxes: np.ndarray, lower_only: bool = False) -> np.ndarray:
    """The face mirrored and recoloured within an ellipse, or only its lower half."""
    out = frames.copy()
    for frame, box in zip(out, boxes, strict=True):
        left, top, right, bottom = box.astype(int)
        part = frame[top:bottom, left:right].astype(np.float32)
        height, width = part.shape[:2]
        mask = np.zeros((height, width, 1), np.float32)
        centre, axes = (width // 2, height // 2), (int(0.42 * width), int(0.45 * height))
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 1.0, -1)
        if lower_only:
            mask[: height // 2] = 0
        other = np.clip(part[:, ::-1] * 1.08 + 4, 0, 255)
        frame[top:bottom, left:right] = np.rint(part + mask * (other - part))
    return out


@pytest.fixture(scope="module")
def finder() -> DlibFinder:
    return DlibFinder(sides=(640,))


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(frames, boxes, sound) of the original."""
    frames, boxes = moving_portrait(round(12.5 * SECONDS), 12.5)
    return frames, boxes, voice(1, SECONDS)


@pytest.fixture(scope="module")
def clips(
    scene: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    root = tmp_path_factory.mktemp("pairs")
    frames, boxes, sound = scene
    late = np.concatenate([np.zeros(480, np.float32), 0.7 * sound])[: len(sound)]
    face = swapped(frames, boxes)
    write_clip(root / "original.mp4", frames, fps=12.5, sound=sound)
    # The fakes are coded by another codec, at another quality, and their sound is late.
    other = {"fps": 12.5, "video_codec": "mpeg4", "audio_codec": "libmp3lame"}
    write_clip(root / "same.mkv", frames, sound=late, **other)
    write_clip(root / "picture.mkv", face, sound=late, **other)
    write_clip(root / "mouth.mkv", swapped(frames, boxes, lower_only=True), sound=late, **other)
    write_clip(root / "sound.mkv", frames, sound=voice(2, SECONDS), **other)
    write_clip(root / "both.mkv", face, sound=voice(3, SECONDS), **other)
    write_clip(root / "silent.mkv", face, fps=12.5, video_codec="mpeg4")
    wall = np.stack([texture(480, 640)] * len(frames))
    write_clip(root / "wall.mp4", wall, fps=12.5, sound=sound)
    return root


def seen(clips: Path, fake: str, finder: DlibFinder, original: str = "original.mp4") -> Any:
    return compare(clips / fake, clips / original, finder)


@pytest.mark.parametrize(
    ("fake", "visual", "audio", "lipsync"),
    [
        ("picture.mkv", 1, 0, 0),
        ("mouth.mkv", 1, 0, 0),
        ("sound.mkv", 0, 1, None),
        ("both.mkv", 1, 1, None),
    ],
)
def test_what_was_forged_is_told(
    clips: Path, finder: DlibFinder, fake: str, visual: int, audio: int, lipsync: int | None
) -> None:
    row = seen(clips, fake, finder)
    assert row["compared"] == "ok"
    found = (row["label_visual"], row["label_audio"], row["label_lipsync"])
    assert found == (visual, audio, lipsync), row


def test_the_evidence_says_where_and_by_how_much(clips: Path, finder: DlibFinder) -> None:
    picture, mouth, sound = (seen(clips, f"{n}.mkv", finder) for n in ("picture", "mouth", "sound"))
    assert picture["sound_difference_db"] < -10
    assert picture["sound_shift_ms"] == pytest.approx(30, abs=5)
    assert sound["sound_difference_db"] > -1
    assert sound["sound_changed"] > 0.9
    assert picture["picture_difference"] > 3 * sound["picture_difference"]
    assert picture["face_share"] > 2 * sound["face_share"]
    assert mouth["mouth_share"] > 0.75 > picture["mouth_share"] > 0.3


def test_where_nothing_differs_nothing_is_made_up(clips: Path, finder: DlibFinder) -> None:
    row = seen(clips, "same.mkv", finder)
    assert row["compared"] == "no_difference"
    assert {row[f"label_{part}"] for part in ("visual", "audio", "lipsync")} == {None}


def test_without_sound_or_face_the_other_stream_still_counts(
    clips: Path, finder: DlibFinder
) -> None:
    silent = seen(clips, "silent.mkv", finder)
    assert (silent["label_visual"], silent["label_audio"]) == (1, None)
    assert "sound_difference_db" not in silent
    # Nobody is found in the original, and its sound is unchanged: so it was the picture.
    faceless = seen(clips, "wall.mp4", finder, original="wall.mp4")
    assert (faceless["label_visual"], faceless["label_audio"]) == (1, 0)
    assert "picture_difference" not in faceless


def test_a_file_that_cannot_be_read_is_told_in_its_row(clips: Path, finder: DlibFinder) -> None:
    (clips / "broken.mp4").write_text("no clip")
    with pytest.raises(AvfakeError):
        seen(clips, "broken.mp4", finder)
    outcome = Comparer(clips, finder)(Pair("picture.mkv", "broken.mp4"))
    assert outcome.rows == {"compared": [{"path": "picture.mkv", "compared": "not_media"}]}


def test_the_shift_is_found_and_the_level_does_not_matter() -> None:
    sound = voice(4, 2.0).astype(np.float64)
    for shift in (-1600, 0, 731):
        assert best_shift(0.3 * np.roll(sound, shift), sound) == shift
    assert residual_db(0.3 * sound, sound) == pytest.approx(-60)
    assert residual_db(np.random.default_rng(0).standard_normal(len(sound)), sound) > -0.1
    assert residual_db(sound, 1e-5 * sound) is None
