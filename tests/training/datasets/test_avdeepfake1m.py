"""AV-Deepfake1M and ++: people from paths, labels from modify_type, train and val shared anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.datasets.trees import labels, rows, touch, write
from training.datasets.avdeepfake1m import prepare, prepare_official
from training.manifest import DatasetError

TALK = "id00012/21Uxsk56VDQ/00001"


def clip(file: str, kind: str, **more: Any) -> dict[str, Any]:
    periods = [] if kind == "real" else [[3.28, 3.46]]
    return {
        "file": file,
        "original": f"{file.rpartition('/')[0]}/real.mp4",
        "split": "train",
        "modify_type": kind,
        "audio_model": None,
        "fake_segments": periods,
        # The release names the other stream here for some clips.
        "visual_fake_segments": periods,
        "audio_fake_segments": periods,
        "video_frames": 237,
        "audio_frames": 151672,
        **more,
    }


def write_list(root: Path, split: str, clips: list[dict[str, Any]]) -> None:
    write(root, f"{split}_metadata.json", [json.dumps(clips)])


def test_labels_come_from_the_type(tmp_path: Path) -> None:
    clips = [
        clip(f"{TALK}/real.mp4", "real"),
        clip(f"{TALK}/fake_video_fake_audio.mp4", "both_modified", audio_model="yourtts"),
        clip(f"{TALK}/real_video_fake_audio.mp4", "audio_modified", audio_model="vits"),
        clip(f"{TALK}/fake_video_real_audio.mp4", "visual_modified"),
    ]
    write_list(tmp_path, "train", clips)
    made = rows(prepare(tmp_path))
    assert labels(made[f"train/{TALK}/real.mp4"]) == (0, 0, 0, 0)
    both = made[f"train/{TALK}/fake_video_fake_audio.mp4"]
    assert labels(both) == (1, 1, 1, 1)
    assert (both["segments"], both["method"]) == ("[[3.28, 3.46]]", "yourtts")
    assert labels(made[f"train/{TALK}/real_video_fake_audio.mp4"]) == (1, 0, 1, 1)
    assert labels(made[f"train/{TALK}/fake_video_real_audio.mp4"]) == (1, 1, 0, 1)
    assert {row["group"] for row in made.values()} == {"id00012"}


@pytest.mark.parametrize(
    ("file", "person"),
    [
        ("vox_celeb_2/id01358/_1nATum8x78/00030/real.mp4", "id01358"),
        ("id01358/_1nATum8x78/00030/real.mp4", "id01358"),
        ("lrs3/ue2ZEmTJSXo/00013/real.mp4", "lrs3/ue2ZEmTJSXo"),
        ("silent_videos/subject_17_ddvyjnjfad_vid_2_6/real.mp4", "subject_17"),
        ("new_corpus/x/1/real.mp4", "new_corpus/x/1"),
    ],
)
def test_who_a_clip_shows(tmp_path: Path, file: str, person: str) -> None:
    write_list(tmp_path, "val", [clip(file, "real")])
    assert rows(prepare(tmp_path))[f"val/{file}"]["people"] == person


def test_somebody_in_train_and_val_goes_to_one_split(tmp_path: Path) -> None:
    people = [f"id{number:05d}" for number in range(30)]
    write_list(tmp_path, "train", [clip(f"{who}/a/1/real.mp4", "real") for who in people])
    write_list(tmp_path, "val", [clip(f"{who}/b/1/real.mp4", "real") for who in people[:10]])
    table = prepare(tmp_path).table
    assert (table.groupby("people")["split"].nunique() == 1).all()
    assert set(table["split"]) == {"train", "val", "test"}
    official = prepare_official(tmp_path)
    assert official.table["split"].value_counts().to_dict() == {"train": 30, "val": 10}
    assert official.notes == ("10 people are in more than one of the published splits.",)


def test_twice_nested_folders_and_a_file_for_each_clip(tmp_path: Path) -> None:
    facts = clip(f"vox_celeb_2/{TALK}/real.mp4", "real")
    write(tmp_path, f"val_metadata/{TALK}/real.json", [json.dumps(facts)])
    touch(tmp_path, f"val/val/vox_celeb_2/{TALK}/real.mp4")
    manifest = prepare(tmp_path)
    assert list(manifest.table["path"]) == [f"val/val/vox_celeb_2/{TALK}/real.mp4"]
    assert manifest.there().all()


def test_other_folders_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected train_metadata.json"):
        prepare(tmp_path)
    write_list(tmp_path, "train", [clip("a/real.mp4", "invented")])
    with pytest.raises(DatasetError, match=r"is not AV-Deepfake1M's"):
        prepare(tmp_path)
