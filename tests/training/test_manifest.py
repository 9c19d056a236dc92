"""The form that all data sets share, and the rule that nobody is in two splits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from training.manifest import (
    COLUMNS,
    UNKNOWN,
    DatasetError,
    Entry,
    check_apart,
    check_form,
    components,
    load,
    manifest,
    save,
    split_groups,
    split_people,
)


def real(path: str, *people: str, split: str = "") -> Entry:
    return Entry(path, 0, people or (path,), visual=0, audio=0, lipsync=0, split=split)


def fake(path: str, *people: str, split: str = "") -> Entry:
    return Entry(path, 1, people or (path,), visual=1, split=split)


def test_components_are_chains_of_shared_people() -> None:
    clips = [("d", "c"), ("a", "b"), ("e",), ("b", "c"), ("f", "e")]
    assert components(clips) == ["a", "a", "e", "a", "e"]


def test_a_fake_joins_the_split_of_all_its_people(tmp_path: Path) -> None:
    entries = [real(f"{n}.mp4", f"p{n}") for n in range(30)]
    entries += [fake(f"f{n}.mp4", f"p{n}", f"p{n + 1}") for n in range(0, 30, 2)]
    table = manifest("some", tmp_path, entries).table
    assert (table.groupby("group")["split"].nunique() == 1).all()
    assert table["group"].nunique() == 15
    assert set(table["split"]) == {"train", "val", "test"}


def test_clips_follow_a_split_that_their_component_has(tmp_path: Path) -> None:
    entries = [real("a.mp4", "anna", split="test"), fake("b.mp4", "berta", "anna")]
    assert list(manifest("some", tmp_path, entries).table["split"]) == ["test", "test"]


def test_splits_are_of_the_size_asked_for_and_always_the_same() -> None:
    groups = [f"g{n % 400}" for n in range(4000)]
    splits = split_groups(groups)
    sizes = Counter(splits[group] for group in groups)
    assert sizes == {"train": 3200, "val": 400, "test": 400}
    assert split_groups(reversed(groups)) == splits
    # A group too large for a tenth trains; each split still has one.
    few = split_groups(["big"] * 50 + ["small"] + ["tiny"])
    assert few["big"] == "train"
    assert set(few.values()) == {"train", "val", "test"}
    assert split_groups(["one", "two"]) == {"one": "train", "two": "train"}


def test_people_swapped_all_round_are_split_and_pairs_across_put_aside() -> None:
    names = [f"p{n}" for n in range(40)]
    clips = [(one,) for one in names] + [(one, two) for one in names for two in names if one < two]
    sides = split_people(clips)
    home = {clip[0]: side for clip, side in zip(clips, sides, strict=True) if len(clip) == 1}
    assert set(home.values()) == {"train", "val", "test"}
    for clip, side in zip(clips, sides, strict=True):
        expected = {home[name] for name in clip}
        assert side == (expected.pop() if len(expected) == 1 else "aside")


def test_somebody_in_two_splits_is_an_error_that_names_them(tmp_path: Path) -> None:
    entries = [real("a.mp4", "anna", split="train"), fake("b.mp4", "berta", "anna", split="test")]
    with pytest.raises(DatasetError, match="anna is in train and in test"):
        manifest("some", tmp_path, entries)
    table = manifest("some", tmp_path, entries, apart=False).table
    table.loc[1, "split"] = "aside"
    check_apart(table)


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("path", "/etc/a.mp4", "below the data set's folder"),
        ("path", "../a.mp4", "below the data set's folder"),
        ("path", "a//b.mp4", "below the data set's folder"),
        ("path", "b.mp4", "in one row only"),
        ("label", UNKNOWN, "label is 0 or 1"),
        ("label", 0.5, "label is 0 or 1"),
        ("label_visual", 2.0, "label_visual is 0, 1 or empty"),
        ("label_audio", 1.0, "a real clip has nothing forged"),
        ("split", "training", "split is one of train, val, test"),
        ("group", "", "not empty"),
        ("segments", "[[1]]", "segments are"),
        ("segments", "[[2, 1]]", "segments are"),
        ("segments", "soon", "segments are"),
    ],
)
def test_every_fault_of_form_is_told(
    tmp_path: Path, column: str, value: object, fault: str
) -> None:
    table = manifest("some", tmp_path, [real("a.mp4"), real("b.mp4")]).table
    check_form(table)
    table.loc[0, column] = value
    with pytest.raises(DatasetError, match=fault):
        check_form(table)


def test_a_fake_of_which_nothing_is_forged_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="a fake has something forged in it"):
        manifest("some", tmp_path, [Entry("a.mp4", 1, ("anna",), visual=0, audio=0)])


def test_a_missing_column_is_told(tmp_path: Path) -> None:
    table = manifest("some", tmp_path, [real("a.mp4")]).table
    with pytest.raises(DatasetError, match=r"needs the columns people, method"):
        check_form(table.drop(columns=["people", "method"]))


def test_what_was_saved_loads_as_it_was(tmp_path: Path) -> None:
    entries = [
        Entry("a.mp4", 0, ("NA",), visual=0, more={"original": "", "level": 1.5}),
        Entry("b.mp4", 1, ("null",), audio=1, segments=((0.5, 2.0),), more={"original": "a.mp4"}),
    ]
    made = manifest("some", tmp_path, entries)
    save(made, tmp_path / "manifest.csv")
    read = load(tmp_path / "manifest.csv")
    core = list(COLUMNS)
    pd.testing.assert_frame_equal(read[core], made.table[core])
    assert read["level"].tolist()[0] == 1.5
    with pytest.raises(DatasetError, match="There is no manifest"):
        load(tmp_path / "other.csv")


def test_files_on_disk_are_told_from_files_that_are_only_listed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.mp4").touch()
    made = manifest("some", tmp_path, [real("a/1.mp4"), real("a/2.mp4"), real("b/1.mp4")])
    assert made.there().tolist() == [True, False, False]
