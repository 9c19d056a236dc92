"""SOURCES.tsv as one more manifest."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.training.datasets.trees import labels, rows, write
from training.datasets.packs import LEFT_OUT, person, prepare
from training.manifest import DatasetError

HEADER = "path\tsplit\tkind\tlabel\tgroup\tsource\tlicence\tbytes"


def test_packs_keep_their_order_splits_and_people(tmp_path: Path) -> None:
    lines = [
        HEADER,
        "talking/pack/one.mp4\ttrain\ttalking\treal\tanna\t\t\t1",
        "dev/faces/a.png\tdev\tface\tfake\tNA\t\t\t1",
        "video/mead/M003_front.mp4\ttrain\tvideo\treal\tM003_front\t\t\t1",
        "speech/fake/univnet/1.flac\ttrain\tspeech\tfake\t19_198\t\t\t1",
    ]
    write(tmp_path, "SOURCES.tsv", lines)
    made = rows(prepare(tmp_path))
    assert [row["group"] for row in made.values()] == ["anna", "NA", "mead-M003", "19_198"]
    assert labels(made["talking/pack/one.mp4"]) == (0, 0, None, None)
    assert labels(made["dev/faces/a.png"]) == (1, 1, None, None)
    assert made["dev/faces/a.png"]["split"] == "dev"
    assert labels(made["speech/fake/univnet/1.flac"]) == (1, None, 1, None)
    assert made["talking/pack/one.mp4"]["dataset"] == "talking/pack"


@pytest.mark.parametrize(
    ("group", "who"),
    [("M003_front", "mead-M003"), ("x-W011.mp4", "mead-W011"), ("AM0031", "AM0031")],
)
def test_the_actors_of_mead_are_one_person_everywhere(group: str, who: str) -> None:
    assert person(group) == who


def test_other_folders_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected a file SOURCES.tsv"):
        prepare(tmp_path)
    write(tmp_path, "SOURCES.tsv", ["path\tsplit"])
    with pytest.raises(DatasetError, match=r"lacks the columns group, kind, label"):
        prepare(tmp_path)


def test_drawn_and_retouched_portraits_are_left_out(tmp_path: Path) -> None:
    listed = pd.read_csv(LEFT_OUT)
    assert listed["path"].is_unique
    assert listed["why"].str.len().gt(0).all()
    portrait = listed["path"].iloc[0]
    lines = [HEADER, f"{portrait}\ttrain\tface\treal\thumans-x\t\t\t1"]
    lines.append("faces/humans/kept.jpg\ttrain\tface\treal\thumans-y\t\t\t1")
    write(tmp_path, "SOURCES.tsv", [*lines, ""])
    for path in (portrait, "faces/humans/kept.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert list(rows(prepare(tmp_path))) == ["faces/humans/kept.jpg"]
