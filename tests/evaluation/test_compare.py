"""Two detectors on the same clips: whose lead is more than luck, and which clips count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.compare import Difference, compare, main, pair
from evaluation.metrics.classification import auc, brier, log_loss
from evaluation.metrics.intervals import DeLong, delong
from evaluation.protocols import TableError, read_manifest, read_scores


def truth(count: int = 120) -> pd.DataFrame:
    """Clips of 30 people, each with real ones and fakes."""
    rows = np.arange(count)
    return pd.DataFrame(
        {
            "path": [f"{row}.mp4" for row in rows],
            "label": np.where(rows // 30 % 2, "fake", "real"),
            "group": [f"person {row % 30}" for row in rows],
        }
    )


def answers(manifest: pd.DataFrame, skill: float, seed: int) -> pd.DataFrame:
    noise = np.random.default_rng(seed).normal(0, 1, len(manifest))
    odds = noise + skill * np.where(manifest["label"] == "fake", 1, -1)
    return pd.DataFrame({"path": manifest["path"], "fake_probability": 1 / (1 + np.exp(-odds))})


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A better and a worse detector, and the truth."""
    manifest = truth()
    tables = {
        "manifest": manifest,
        "better": answers(manifest, 1.5, 1),
        "worse": answers(manifest, 0.3, 2),
    }
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    return {name: tmp_path / f"{name}.csv" for name in tables}


def compared(
    files: dict[str, Path], first: str, second: str, modality: str = "fused"
) -> tuple[dict[str, Difference], DeLong]:
    pairs = pair(
        read_scores(files[first]),
        read_scores(files[second]),
        read_manifest(files["manifest"]),
        modality,
    )
    found, test = compare(pairs, draws=200)
    return {row.measure.name: row for row in found}, test


def test_figures_are_those_of_the_metrics(files: dict[str, Path]) -> None:
    found, test = compared(files, "better", "worse")
    label = (truth()["label"] == "fake").to_numpy(float)
    first, second = (
        read_scores(files[name])["fake_probability"].to_numpy() for name in ("better", "worse")
    )
    assert found["AUC"].first == auc(label, first)
    assert found["AUC"].second == auc(label, second)
    assert found["Brier score"].difference == brier(label, first) - brier(label, second)
    assert found["log-loss"].first == log_loss(label, first)
    assert found["log-loss, 0.01 to 0.99"].first == log_loss(label, first, clip=0.01)
    assert test == delong(label, first, second)


def test_a_lead_is_told_from_luck(files: dict[str, Path]) -> None:
    found, test = compared(files, "better", "worse")
    assert found["AUC"].low > 0
    assert found["log-loss"].high < 0
    assert found["Brier score"].high < 0
    assert test.p < 0.01
    answers(truth(), 0.3, 3).to_csv(files["better"], index=False)  # of the same skill as the other
    found, test = compared(files, "better", "worse")
    assert all(row.low < 0 < row.high for row in found.values())
    assert test.p > 0.05


def test_only_clips_that_both_answered_count(files: dict[str, Path]) -> None:
    manifest = truth()
    manifest.loc[manifest.index >= 118, "label"] = ""
    manifest.to_csv(files["manifest"], index=False)
    first, second = read_scores(files["better"]), read_scores(files["worse"])
    first.loc[:4, "fake_probability"] = np.nan  # abstained
    second = second[second.index >= 2]  # never scored
    second.loc[second.index >= 110, "fake_probability"] = np.nan
    strange = pd.concat([first, first.iloc[-1:].assign(path="elsewhere.mp4")])
    pairs = pair(strange, second, read_manifest(files["manifest"]), "fused")
    assert len(pairs) == len(pairs.first) == len(pairs.group) == 110 - 5
    assert (pairs.only_first, pairs.only_second) == (118 - 110, 5 - 2)
    assert (pairs.neither, pairs.unlabelled) == (2, 2)
    assert pairs.first[0] == first["fake_probability"][5]
    assert pairs.second[0] == second["fake_probability"][5]
    assert pairs.group[0] == "person 5"


def test_the_order_of_the_tables_is_no_matter(files: dict[str, Path]) -> None:
    before, _ = compared(files, "better", "worse")
    shuffled = read_scores(files["better"]).sample(frac=1, random_state=0)
    shuffled.to_csv(files["better"], index=False)
    after, _ = compared(files, "better", "worse")
    assert after == before


def test_branches_are_measured_against_their_own_truth(files: dict[str, Path]) -> None:
    manifest = truth()
    scores = pd.concat(
        [
            answers(manifest, 1, 4).assign(branch="audio"),
            answers(manifest, 1, 5).assign(branch="visual"),
        ]
    )
    scores.to_csv(files["worse"], index=False)
    manifest["label_audio"] = np.where(manifest.index % 2, "1", "0")
    manifest.loc[manifest.index >= 60, "label_audio"] = ""
    manifest.to_csv(files["manifest"], index=False)
    table = read_scores(files["worse"])
    pairs = pair(table, table, read_manifest(files["manifest"]), "audio")
    assert pairs.own_truth
    assert (len(pairs), pairs.unlabelled) == (60, 60)
    assert pairs.label.tolist() == [0, 1] * 30
    pairs = pair(table, table, read_manifest(files["manifest"]), "visual")
    assert not pairs.own_truth
    assert len(pairs) == 120
    with pytest.raises(TableError, match="lipsync"):
        pair(table, table, read_manifest(files["manifest"]), "lipsync")


def test_the_table_says_who_is_better(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        [
            *(str(files["worse"]), str(files["better"])),
            *("--manifest", str(files["manifest"]), "--draws", "100"),
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    assert "120 clips of 30 people scored by both (60 real, 60 fake)." in lines
    rows = {line[:24].strip(): line.split() for line in lines if line.startswith(("log", "B", "A"))}
    for name in ("log-loss", "log-loss, 0.01 to 0.99", "Brier score", "AUC", "AUC, DeLong"):
        assert rows[name][-1] == "B"
    assert max(map(len, lines[5:])) <= 80


def test_what_cannot_be_told_is_said(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = truth().assign(label="real", group="one")
    manifest.to_csv(files["manifest"], index=False)
    main(
        [
            *(str(files["better"]), str(files["worse"])),
            *("--manifest", str(files["manifest"]), "--draws", "20"),
        ]
    )
    out = capsys.readouterr().out
    assert "All of these clips are real: there is no AUC." in out
    assert "one person: there is no interval" in out
    assert "nan" not in out
    (row,) = (line.split() for line in out.splitlines() if line.startswith("AUC,"))
    assert row[2:] == ["-"] * 5


@pytest.mark.parametrize(
    ("broken", "text", "said"),
    [
        ("better", "path,other\n", "fake_probability"),
        ("better", "path,fake_probability\nunknown.mp4,0.5\n", "A scored 0 of them, B 120"),
        ("better", "path,fake_probability\n0.mp4,1.5\n", "not in [0, 1]"),
        ("manifest", "path,label\n0.mp4,\n", "labels no clip"),
        ("manifest", "path\n0.mp4\n", "label"),
        ("manifest", None, "no table"),
    ],
)
def test_bad_tables_end_with_a_sentence(
    files: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    broken: str,
    text: str | None,
    said: str,
) -> None:
    if text is None:
        files[broken].unlink()
    else:
        files[broken].write_text(text)
    with pytest.raises(SystemExit) as stop:
        main([str(files["better"]), str(files["worse"]), "--manifest", str(files["manifest"])])
    assert stop.value.code == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert said in error
    assert error.count("\n") == 1
