"""LAV-DF: metadata.json gives labels, seconds and splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.datasets.trees import labels, rows, write
from training.datasets.lavdf import prepare
from training.manifest import DatasetError


def clip(file: str, picture: bool, sound: bool, original: str | None = None) -> dict[str, Any]:
    periods = [[1.25, 1.78]] if picture or sound else []
    return {
        "file": file,
        "n_fakes": len(periods),
        "fake_periods": periods,
        "duration": 4.224,
        "original": original,
        "modify_video": picture,
        "modify_audio": sound,
        "split": file.split("/")[0],
        "video_frames": 103,
        "audio_channels": 1,
        "audio_frames": 65536,
    }


@pytest.mark.parametrize("name", ["metadata.json", "metadata.min.json"])
def test_labels_segments_and_splits(tmp_path: Path, name: str) -> None:
    clips = [
        clip("train/000000.mp4", False, False),
        clip("train/000001.mp4", True, False, "train/000000.mp4"),
        clip("train/000002.mp4", False, True, "000000.mp4"),
        clip("dev/000003.mp4", True, True, "dev/000009.mp4"),
        clip("test/000004.mp4", False, False),
    ]
    write(tmp_path, name, [json.dumps(clips)])
    made = rows(prepare(tmp_path))
    assert labels(made["train/000000.mp4"]) == (0, 0, 0, 0)
    assert labels(made["train/000001.mp4"]) == (1, 1, 0, 1)
    assert labels(made["train/000002.mp4"]) == (1, 0, 1, 1)
    assert labels(made["dev/000003.mp4"]) == (1, 1, 1, 1)
    assert made["train/000001.mp4"]["segments"] == "[[1.25, 1.78]]"
    assert made["train/000000.mp4"]["segments"] == "[]"
    assert {made[f"train/00000{n}.mp4"]["group"] for n in range(3)} == {"train/000000.mp4"}
    assert [made[f]["split"] for f in ("dev/000003.mp4", "test/000004.mp4")] == ["val", "test"]


def test_an_original_in_another_split_is_an_error(tmp_path: Path) -> None:
    clips = [
        clip("train/000000.mp4", False, False),
        clip("test/000001.mp4", True, False, "train/000000.mp4"),
    ]
    write(tmp_path, "metadata.json", [json.dumps(clips)])
    with pytest.raises(DatasetError, match=r"train/000000.mp4 is in train and in test"):
        prepare(tmp_path)


def test_other_folders_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected metadata.json"):
        prepare(tmp_path)
    write(tmp_path, "metadata.json", ['{"a.mp4": {"label": "FAKE"}}'])
    with pytest.raises(DatasetError, match=r"is not LAV-DF's"):
        prepare(tmp_path)
