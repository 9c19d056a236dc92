"""Clips of one's own: two folders, or labels.csv."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.datasets.trees import labels, rows, touch, write
from training.datasets.folder import prepare
from training.manifest import DatasetError


def test_two_folders(tmp_path: Path) -> None:
    touch(tmp_path, "real/anna/1.mp4", "real/2.MOV", "fake/anna/swap.mp4", "fake/2.mov")
    touch(tmp_path, "fake/picture.png", "fake/voice.wav", "real/notes.txt")
    manifest = prepare(tmp_path)
    made = rows(manifest)
    assert "real/notes.txt" not in made
    assert labels(made["real/anna/1.mp4"]) == (0, 0, 0, 0)
    assert labels(made["fake/anna/swap.mp4"]) == (1, None, None, None)
    assert made["real/anna/1.mp4"]["group"] == made["fake/anna/swap.mp4"]["group"] == "anna"
    assert made["real/2.MOV"]["group"] == made["fake/2.mov"]["group"] == "2"
    assert labels(made["fake/picture.png"]) == (1, 1, None, None)
    assert labels(made["fake/voice.wav"]) == (1, None, 1, None)
    assert "Of 2 fakes nobody says what was forged" in manifest.notes[0]


def test_a_table_says_what_it_knows(tmp_path: Path) -> None:
    lines = [
        "path,label,label_visual,label_audio,segments,people,split,method,original",
        "a.mp4,real,,,,anna,,,",
        'b.mp4,fake,1,0,"[[0.5, 1.5]]",berta anna,,swapper,',
        "c.mp4,1,,,,,test,,a2.mp4",
        "a2.mp4,0,,,,,,,",
    ]
    write(tmp_path, "labels.csv", lines)
    manifest = prepare(tmp_path)
    made = rows(manifest)
    assert labels(made["a.mp4"]) == (0, 0, 0, 0)
    assert labels(made["b.mp4"]) == (1, 1, 0, None)
    assert (made["b.mp4"]["segments"], made["b.mp4"]["method"]) == ("[[0.5, 1.5]]", "swapper")
    assert made["a.mp4"]["group"] == made["b.mp4"]["group"] == "anna"
    assert made["a2.mp4"]["split"] == made["c.mp4"]["split"] == "test"  # a fake's original
    assert made["c.mp4"]["original"] == "a2.mp4"
    assert not manifest.notes


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("a.mp4,perhaps,", "line 2"),
        ("../a.mp4,real,", "below the data set's folder"),
        ("a.mp4,fake,[[2]]", "line 2"),
        ('a.mp4,fake,"[[2, 1]]"', "start, end"),
        (",real,", "below the data set's folder"),
    ],
)
def test_a_bad_line_is_told(tmp_path: Path, line: str, fault: str) -> None:
    write(tmp_path, "labels.csv", ["path,label,segments", line])
    with pytest.raises(DatasetError, match=fault):
        prepare(tmp_path)


def test_other_folders_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"neither labels.csv .* nor the folders"):
        prepare(tmp_path)
    write(tmp_path, "labels.csv", ["file,label"])
    with pytest.raises(DatasetError, match=r"needs the columns path and label"):
        prepare(tmp_path)
    write(tmp_path, "labels.csv", ["path,label"])
    with pytest.raises(DatasetError, match=r"lists no clips"):
        prepare(tmp_path)
