"""FaceForensics++: pairs that keep to the published split, actors that are split here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.datasets.trees import labels, rows, touch, write
from training.datasets.faceforensics import prepare
from training.manifest import DatasetError

SWAPS = "manipulated_sequences"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in ("000", "003", "720", "672", "555", "516"):
        touch(tmp_path, f"original_sequences/youtube/c23/videos/{number}.mp4")
    for method in ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter"):
        for pair in ("000_003", "003_000", "720_672", "555_516"):
            touch(tmp_path, f"{SWAPS}/{method}/c23/videos/{pair}.mp4")
    touch(tmp_path, f"{SWAPS}/Deepfakes/c40/videos/000_003.mp4")
    touch(tmp_path, f"{SWAPS}/Deepfakes/masks/videos.txt")
    write(tmp_path, "splits/train.json", ['[["720", "672"]]'])
    write(tmp_path, "splits/val.json", ['[["555", "516"]]'])
    write(tmp_path, "splits/test.json", ['[["000", "003"]]'])
    return tmp_path


def test_pairs_keep_to_the_published_split(root: Path) -> None:
    manifest = prepare(root)
    made = rows(manifest)
    assert len(made) == 6 + 5 * 4 + 1
    fake = made[f"{SWAPS}/Deepfakes/c23/videos/000_003.mp4"]
    assert labels(fake) == (1, 1, None, None)
    assert (fake["split"], fake["method"], fake["people"]) == ("test", "Deepfakes", "000 003")
    assert fake["group"] == made["original_sequences/youtube/c23/videos/003.mp4"]["group"]
    assert labels(made["original_sequences/youtube/c23/videos/720.mp4"]) == (0, 0, None, None)
    assert made[f"{SWAPS}/FaceShifter/c23/videos/555_516.mp4"]["split"] == "val"
    assert made[f"{SWAPS}/Deepfakes/c40/videos/000_003.mp4"]["compression"] == "c40"
    assert not manifest.notes


def test_without_the_lists_pairs_still_stay_together(root: Path) -> None:
    for name in ("train", "val", "test"):
        (root / f"splits/{name}.json").unlink()
    manifest = prepare(root)
    assert any("made here" in note for note in manifest.notes)
    assert (manifest.table.groupby("group")["split"].nunique() == 1).all()


def test_actors_on_two_sides_are_put_aside(root: Path) -> None:
    actors = [f"{number:02d}" for number in range(1, 13)]
    for one in actors:
        touch(root, f"original_sequences/actors/c23/videos/{one}__exit_phone_room.mp4")
        for two in actors:
            if one != two:
                name = f"{one}_{two}__exit_phone_room__YVGY8LOK.mp4"
                touch(root, f"{SWAPS}/DeepFakeDetection/c23/videos/{name}")
    made = rows(prepare(root))
    acted = {path: row for path, row in made.items() if "actor-01" in row["people"]}
    real = acted["original_sequences/actors/c23/videos/01__exit_phone_room.mp4"]
    assert (real["group"], real["people"]) == ("actor-01", "actor-01")
    splits = {
        row["people"]: row["split"] for row in made.values() if row["people"].count("actor") == 1
    }
    assert set(splits.values()) == {"train", "val", "test"}
    for row in made.values():
        if row["people"].count("actor") == 2:
            sides = {splits[name] for name in row["people"].split()}
            assert row["split"] == (sides.pop() if len(sides) == 1 else "aside")


def test_other_folders_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected original_sequences/youtube/c23/videos"):
        prepare(tmp_path)


def test_a_list_that_is_none_is_refused(root: Path) -> None:
    write(root, "splits/val.json", ["[5]"])
    with pytest.raises(DatasetError, match=r"lists of pairs"):
        prepare(root)
