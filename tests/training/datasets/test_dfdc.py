"""DFDC: parts with metadata.json, originals that tie fakes to reals, labels left open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.datasets.trees import labels, rows, touch, write
from training.datasets.dfdc import prepare
from training.manifest import DatasetError


def write_part(root: Path, part: str, clips: dict[str, str | None]) -> None:
    """`clips`: file -> its original, or None for a real clip."""
    facts = {
        name: {"label": "FAKE", "split": "train", "original": original}
        if original
        else {"label": "REAL", "split": "train"}
        for name, original in clips.items()
    }
    write(root, f"{part}/metadata.json", [json.dumps(facts)])
    touch(root, *(f"{part}/{name}" for name in clips))


def test_a_fake_joins_its_original_and_its_parts_are_unknown(tmp_path: Path) -> None:
    write_part(tmp_path, "dfdc_train_part_0", {"fake.mp4": "real.mp4", "real.mp4": None})
    made = rows(prepare(tmp_path))
    fake, real = (made[f"dfdc_train_part_0/{name}.mp4"] for name in ("fake", "real"))
    assert labels(real) == (0, 0, 0, 0)
    assert labels(fake) == (1, None, None, None)
    assert fake["group"] == real["group"] == "real.mp4"
    assert fake["split"] == real["split"]
    assert fake["original"] == "dfdc_train_part_0/real.mp4"
    assert real["original"] == ""


@pytest.mark.parametrize("part", ["", "train/dfdc_train_part_00", "dfdc_train_part_49"])
def test_parts_are_found_where_users_put_them(tmp_path: Path, part: str) -> None:
    write_part(tmp_path, part or ".", {"fake.mp4": "real.mp4", "real.mp4": None})
    assert set(rows(prepare(tmp_path))) == {
        f"{part}/{n}".lstrip("/") for n in ("fake.mp4", "real.mp4")
    }


def test_originals_that_no_part_lists_are_told(tmp_path: Path) -> None:
    write_part(tmp_path, "dfdc_train_part_0", {"fake.mp4": "elsewhere.mp4", "real.mp4": None})
    assert any("1 fakes name an original" in note for note in prepare(tmp_path).notes)


def test_with_ten_parts_whole_parts_go_to_one_split(tmp_path: Path) -> None:
    for part in range(12):
        name = f"p{part}"
        clips = {f"{name}a.mp4": None, f"{name}b.mp4": f"{name}a.mp4", f"{name}c.mp4": None}
        write_part(tmp_path, f"dfdc_train_part_{part}", clips)
    # An original in another part ties the two parts together.
    write_part(tmp_path, "dfdc_train_part_12", {"x.mp4": "p3c.mp4"})
    manifest = prepare(tmp_path)
    folders = manifest.table["path"].str.rpartition("/")[0]
    assert (manifest.table.groupby(folders)["split"].nunique() == 1).all()
    assert set(manifest.table["split"]) == {"train", "val", "test"}
    by_folder = manifest.table.groupby(folders)["split"].first()
    assert by_folder["dfdc_train_part_12"] == by_folder["dfdc_train_part_3"]
    assert not any("fewer than" in note for note in manifest.notes)


def test_the_held_back_sets_keep_their_part(tmp_path: Path) -> None:
    write_part(tmp_path, "train/dfdc_train_part_0", {"real.mp4": None})
    write(tmp_path, "validation/labels.csv", ["filename,label", "v.mp4,1"])
    write(tmp_path, "test/labels.csv", ["filename,label", "t.mp4,0"])
    touch(tmp_path, "validation/v.mp4", "test/videos/t.mp4")
    made = rows(prepare(tmp_path))
    assert made["validation/v.mp4"]["split"] == "val"
    assert labels(made["validation/v.mp4"]) == (1, None, None, None)
    assert made["test/videos/t.mp4"]["split"] == "test"


def test_other_folders_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected folders such as dfdc_train_part_0"):
        prepare(tmp_path)
    write(tmp_path, "dfdc_train_part_0/metadata.json", ['{"a.mp4": {"label": "PERHAPS"}}'])
    with pytest.raises(DatasetError, match=r"metadata.json is not DFDC's"):
        prepare(tmp_path)
