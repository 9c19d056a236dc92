"""Manifests and score tables in every form that is read."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.protocols import (
    SCORES,
    TableError,
    join,
    read_manifest,
    read_scores,
    select,
    truth_of,
    write_table,
)

DFDC = {
    "aa.mp4": {"label": "FAKE", "split": "train", "original": "bb.mp4"},
    "bb.mp4": {"label": "REAL", "split": "train"},
}


def written(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_a_manifest_of_two_columns_is_enough(tmp_path: Path) -> None:
    table = read_manifest(written(tmp_path, "path,label\na.mp4,fake\nNA,REAL\nc.mp4,1\nd.mp4,\n"))
    assert table["path"].tolist() == ["a.mp4", "NA", "c.mp4", "d.mp4"]
    np.testing.assert_equal(table["label"].to_numpy(), [1, 0, 1, np.nan])
    assert table["label_audio"].isna().all()
    assert table["group"].tolist() == table["path"].tolist()
    assert table["segments"].tolist() == [[], [], [], []]


def test_a_full_manifest_says_the_same_as_csv_tsv_and_parquet(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "path": ["x/a.mp4", "b.mp4"],
            "label": [1.0, 0.0],
            "label_visual": [np.nan, 0.0],
            "segments": ["[[0.5, 1.25]]", "[]"],
            "group": ["ann", ""],
            "split": ["test", "test"],
            "colour": ["red", "blue"],
        }
    )
    rows.to_csv(tmp_path / "m.csv", index=False)
    rows.to_csv(tmp_path / "m.tsv", index=False, sep="\t")
    rows.to_parquet(tmp_path / "m.parquet", index=False)
    for name in ("m.csv", "m.tsv", "m.parquet"):
        table = read_manifest(tmp_path / name)
        assert table["segments"].tolist() == [[(0.5, 1.25)], []]
        assert table["group"].tolist() == ["ann", "b.mp4"]
        assert table["colour"].tolist() == ["red", "blue"]
        np.testing.assert_equal(table["label_visual"].to_numpy(), [np.nan, 0])


@pytest.mark.parametrize("form", ["file", "folder", "zip"])
def test_metadata_of_dfdc_is_a_manifest(tmp_path: Path, form: str) -> None:
    file = written(tmp_path, json.dumps(DFDC), "metadata.json")
    source, prefix = {"file": (file, ""), "folder": (tmp_path, "")}.get(
        form, (tmp_path / "train_sample_videos.zip", "train_sample_videos/")
    )
    if form == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr("train_sample_videos/metadata.json", json.dumps(DFDC))
            archive.writestr("train_sample_videos/aa.mp4", b"")
    table = read_manifest(source)
    assert table["path"].tolist() == [prefix + "aa.mp4", prefix + "bb.mp4"]
    assert table["label"].tolist() == [1, 0]
    assert table["group"].tolist() == ["bb.mp4", "bb.mp4"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,label\na,1\n", "no column 'path'"),
        ("path,truth\na,1\n", "no column 'label'"),
        ("path,label\na,1\na,0\n", "lists a twice"),
        ("path,label\na,maybe\n", "'maybe'"),
        ("path,label\n,1\n", "without a path"),
        ('path,label,segments\na,1,"[[3, 1]]"\n', "does not end after it starts"),
        ("path,label,segments\na,1,soon\n", "JSON list"),
        ("path,label,offset_ms\na,1,late\n", "offset_ms holds something that is no number"),
    ],
)
def test_a_bad_manifest_is_told_in_a_sentence(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(TableError, match=told.replace("[", r"\[")):
        read_manifest(written(tmp_path, text))


def test_missing_files_and_odd_ones_are_told(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no table"):
        read_manifest(tmp_path / "none.csv")
    with pytest.raises(TableError, match=r"metadata\.json"):
        read_manifest(tmp_path)
    with pytest.raises(TableError, match="DFDC"):
        read_manifest(written(tmp_path, "[1, 2]", "metadata.json"))
    with pytest.raises(TableError, match="is no table"):
        read_scores(written(tmp_path, "no parquet", "scores.parquet"))
    with pytest.raises(TableError, match="no column 'path'"):
        read_scores(written(tmp_path, "no zip", "scores.zip"))
    with pytest.raises(TableError, match="is no zip"):
        read_manifest(written(tmp_path, "no zip", "videos.zip"))


def test_nan_in_words_is_no_answer(tmp_path: Path) -> None:
    text = "path,branch,fake_probability\na,fused,0.9\na,audio,nan\nb,fused,NaN\n"
    table = read_scores(written(tmp_path, text)).set_index("path")
    assert table["status"].to_dict() == {"a": "ok", "b": "abstain"}
    assert table["audio_probability"].isna().all()


def test_rows_are_chosen_by_labels_in_any_form_and_by_text(tmp_path: Path) -> None:
    text = "path,label,split,take\na,fake,dev,1\nb,REAL,dev,2\nc,1,,2\nd,,dev,\n"
    manifest = read_manifest(written(tmp_path, text))

    def chosen(*conditions: str) -> list[str]:
        return select(manifest, list(conditions))["path"].tolist()

    assert chosen() == ["a", "b", "c", "d"]
    assert chosen("label=fake") == chosen("label=1") == ["a", "c"]
    assert chosen("label=real", "split=dev", "take=2") == ["b"]
    assert chosen("split=") == ["c"]
    assert chosen("take=") == ["d"]
    for conditions, told in (
        (["colour=red"], "no column 'colour'"),
        (["split"], "COLUMN=VALUE"),
        (["label=fake", "take=9"], "label=fake and take=9"),
    ):
        with pytest.raises(TableError, match=told):
            select(manifest, conditions)
    with pytest.raises(TableError, match="lists no clips"):
        select(read_manifest(written(tmp_path, "path,label\n", "empty.csv")), [])


def test_scores_of_another_detector_become_the_same_table(tmp_path: Path) -> None:
    text = "path,branch,fake_probability\na,fused,0.9\na,visual,0.8\nb,visual,0.25\n"
    table = read_scores(written(tmp_path, text)).set_index("path")
    assert set(SCORES) - {"path"} <= set(table)
    assert table.loc["a", "fake_probability"] == 0.9
    assert table.loc["b", "visual_probability"] == 0.25
    assert table.loc["b", "status"] == "abstain"
    assert table.loc["a", "audio_status"] == "absent"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,score\na,1\n", "no column 'fake_probability'"),
        ("path,fake_probability\na,1.5\n", "not in"),
        ("path,fake_probability\na,high\n", "no number"),
        ("path,fake_probability\na,inf\n", "not in"),
        ("path,fake_probability,segments\na,0.5,soon\n", "segments are a JSON list"),
        ('path,fake_probability,segments\na,0.5,"[[0, 1, 0.5]]"\n', "segments are a JSON list"),
        ("path,fake_probability\na,0.5\na,0.6\n", "twice"),
        ("path,branch,fake_probability\na,ears,0.5\n", "'ears'"),
        ("path,branch,fake_probability\na,audio,0.5\na,audio,0.5\n", "twice"),
    ],
)
def test_bad_scores_are_told_in_a_sentence(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(TableError, match=told):
        read_scores(written(tmp_path, text))


@pytest.mark.parametrize("name", ["s.csv", "s.parquet"])
def test_a_table_comes_back_as_it_was_written(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame({"path": ["a", "NA"], "fake_probability": [0.25, np.nan]})
    table = table.assign(status=["ok", "error"], reason=["", "not_media"])
    write_table(table, tmp_path / name)
    again = read_scores(tmp_path / name)
    for column in table:
        np.testing.assert_array_equal(again[column].to_numpy(), table[column].to_numpy())
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_parquet_without_pyarrow_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.parquet"
    write_table(pd.DataFrame({"path": ["a"]}), path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TableError, match="needs pyarrow"):
        write_table(pd.DataFrame({"path": ["a"]}), path)
    with pytest.raises(TableError, match="needs pyarrow"):
        read_scores(path)


def test_a_join_names_what_was_not_scored(tmp_path: Path) -> None:
    manifest = read_manifest(written(tmp_path, "path,label\na,1\nb,0\n"))
    scores = read_scores(written(tmp_path, "path,fake_probability\na,0.5\nz,0.5\n", "s.csv"))
    both, missing = join(scores, manifest)
    assert both["path"].tolist() == ["a"]
    assert missing == ["b"]
    assert both["segments"].tolist() == [[]]
    # One table may well hold both.
    one = written(tmp_path, "path,label,fake_probability,status\na,1,0.5,\n", "one.csv")
    both, _ = join(read_scores(one), read_manifest(one))
    assert both[["label", "fake_probability", "status"]].to_numpy().tolist() == [[1, 0.5, "ok"]]
    with pytest.raises(TableError, match="one folder"):
        join(scores.assign(path=["x", "y"]), manifest)


def test_a_branch_without_labels_of_its_own_is_held_against_the_clip(tmp_path: Path) -> None:
    table = read_manifest(written(tmp_path, "path,label,label_audio\na,1,0\nb,0,0\n"))
    assert truth_of(table, "audio")[1]
    assert truth_of(table, "audio")[0].tolist() == [0, 0]
    labels, own = truth_of(table, "visual")
    assert not own
    assert labels.tolist() == [1, 0]
