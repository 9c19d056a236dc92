"""Celeb-DF: by person as default, the published list on request."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.datasets.trees import labels, rows, touch, write
from training.datasets.celebdf import prepare, prepare_official
from training.manifest import DatasetError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    people = [f"id{number}" for number in range(12)]
    for one in people:
        touch(tmp_path, f"Celeb-real/{one}_0000.mp4")
        for two in people:
            if one != two:
                touch(tmp_path, f"Celeb-synthesis/{one}_{two}_0000.mp4")
    touch(tmp_path, *(f"YouTube-real/{number:05d}.mp4" for number in range(6)))
    listed = ["1 YouTube-real/00002.mp4", "1 Celeb-real/id1_0000.mp4"]
    listed += ["0 Celeb-synthesis/id1_id2_0000.mp4"]
    write(tmp_path, "List_of_testing_videos.txt", listed)
    return tmp_path


def test_nobody_is_on_two_sides(root: Path) -> None:
    manifest = prepare(root)
    made = rows(manifest)
    fake = made["Celeb-synthesis/id1_id2_0000.mp4"]
    assert labels(fake) == (1, 1, None, None)
    assert (fake["people"], fake["group"]) == ("id1 id2", "id1")
    assert labels(made["YouTube-real/00002.mp4"]) == (0, 0, None, None)
    aside = manifest.table["split"] == "aside"
    assert aside.any()
    assert (manifest.table["label"][aside] == 1).all()
    assert f"{aside.sum()} fakes of people on two sides" in manifest.notes[0]
    assert set(manifest.table["split"]) == {"train", "val", "test", "aside"}


def test_the_published_list_is_the_test_part(root: Path) -> None:
    manifest = prepare_official(root)
    test = manifest.table["path"][manifest.table["split"] == "test"]
    assert set(test) == {
        "YouTube-real/00002.mp4",
        "Celeb-real/id1_0000.mp4",
        "Celeb-synthesis/id1_id2_0000.mp4",
    }
    assert manifest.notes == ("2 people are in more than one of the published splits.",)


def test_a_folder_videos_in_between_is_read_as_well(tmp_path: Path) -> None:
    touch(tmp_path, "Celeb-real/videos/id0_0000.mp4", "Celeb-synthesis/videos/id0_id1_0000.mp4")
    write(tmp_path, "List_of_testing_videos.txt", ["1 Celeb-real/id0_0000.mp4", "0 gone.mp4"])
    manifest = prepare_official(tmp_path)
    assert rows(manifest)["Celeb-real/videos/id0_0000.mp4"]["split"] == "test"
    assert any("1 clips of List_of_testing_videos.txt are not there" in n for n in manifest.notes)


def test_other_folders_are_refused_in_one_sentence(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected Celeb-real/id0_0000.mp4"):
        prepare(tmp_path / "Celeb-real")
    (root / "List_of_testing_videos.txt").unlink()
    with pytest.raises(DatasetError, match=r"has no List_of_testing_videos.txt"):
        prepare_official(root)
