"""A run through corruptions: what is counted, what is compared, and that it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from avfake.detector import Detector
from avfake.media import Clip
from avfake.types import Prediction
from evaluation.media import Media
from evaluation.protocols import TableError, read_manifest
from evaluation.robustness import figures, main, run, show, trials
from tests.clips import beeps, grey_frames, moving_portrait, write_clip

WANTED = trials(["contrast", "flip", "late"], [1, 5])


class BrightnessJudge:
    """Takes what is bright for fake; remembers the files that it was shown."""

    def __init__(self, sha256: str = "a") -> None:
        self.bundle = SimpleNamespace(sha256=sha256)
        self.shown: list[Path] = []

    def predict(self, path: Path) -> Prediction:
        self.shown.append(path)
        if not path.exists():
            return Prediction(str(path), "error", "not_found", "There is no such file.")
        with Clip(path) as clip:
            first = next(clip.pictures(1), None)
        if first is None:
            return Prediction(str(path), "abstain", "no_evidence", "Nothing to judge.")
        logit = (float(first.luma.mean()) - 100) / 10
        return Prediction(str(path), "ok", logit=logit, verdict="uncertain")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three dark real clips, one of them silent, three bright fakes, a sound, a file too few."""
    place = tmp_path_factory.mktemp("clips")
    for index in range(6):
        level = 60 + 5 * index if index < 3 else 150 + 5 * index
        heard = None if index == 0 else beeps(1.0, [0.3])
        write_clip(place / f"{index}.mp4", grey_frames([level] * 12), fps=12, sound=heard)
    write_clip(place / "voice.wav", sound=beeps(1.0, [0.2]), audio_codec="pcm_s16le")
    rows = [(f"{index}.mp4", int(index > 2), f"person{index % 3}") for index in range(6)]
    rows += [("voice.wav", 0, "voice"), ("missing.mp4", 1, "missing")]
    table = pd.DataFrame(rows, columns=["path", "label", "group"])
    table.to_csv(place / "manifest.csv", index=False)
    return place


@pytest.fixture(scope="module")
def manifest(folder: Path) -> pd.DataFrame:
    return read_manifest(folder / "manifest.csv")


@pytest.fixture(scope="module")
def answers(folder: Path, manifest: pd.DataFrame) -> tuple[pd.DataFrame, BrightnessJudge]:
    judge = BrightnessJudge()
    table = run(manifest, Media(folder), judge, WANTED, folder / "journal.jsonl")
    return table, judge


@pytest.fixture(scope="module")
def rows(answers: tuple[pd.DataFrame, BrightnessJudge], manifest: pd.DataFrame) -> pd.DataFrame:
    table = figures(answers[0], manifest, threshold=0.8)
    return table[table["modality"] == "fused"].set_index(["corruption", "level"])


def test_a_lone_level_is_one_whatever_is_asked_for() -> None:
    assert WANTED == [
        ("clean", 0),
        ("contrast", 1),
        ("contrast", 5),
        ("flip", 1),
        ("late", 1),
        ("late", 5),
    ]


def test_the_table_has_a_row_a_trial_and_says_how_many_levels_there_are(
    rows: pd.DataFrame,
) -> None:
    assert list(rows.index) == WANTED
    assert rows.loc[("flip", 1), "levels"] == 1
    assert rows.loc[("contrast", 5), "levels"] == 5
    assert rows.loc[("late", 5), "value"] == 200


def test_clips_that_a_corruption_does_not_concern_are_not_counted(rows: pd.DataFrame) -> None:
    assert rows.loc[("clean", 0), "clips"] == 8
    assert rows.loc[("contrast", 1), "clips"] == 7  # not the sound file
    assert rows.loc[("late", 1), "clips"] == 7  # not the silent clip
    assert rows.loc[("clean", 0), "coverage"] == pytest.approx(6 / 8)
    assert rows.loc[("contrast", 1), "coverage"] == pytest.approx(6 / 7)  # one is missing
    assert rows.loc[("late", 1), "coverage"] == pytest.approx(5 / 7)


def test_clean_and_corrupted_are_compared(rows: pd.DataFrame) -> None:
    clean, flat = rows.loc[("clean", 0)], rows.loc[("contrast", 5)]
    assert (clean["auc"], clean["false_alarms"]) == (1.0, 0.0)
    # All grows grey: the order stays, but dark is no longer dark enough to be real.
    assert (flat["auc"], flat["auc_change"]) == (1.0, 0.0)
    assert (flat["clean_false_alarms"], flat["false_alarms"]) == (0.0, 1.0)
    assert flat["log_loss_change"] > 0.3
    assert flat["log_loss_change_low"] > 0
    assert rows.loc[("flip", 1), "log_loss_change"] == pytest.approx(0, abs=0.05)
    assert rows.loc[("late", 1), "log_loss_change"] == pytest.approx(0, abs=0.05)


def test_branches_are_rows_without_false_alarms(
    answers: tuple[pd.DataFrame, BrightnessJudge], manifest: pd.DataFrame
) -> None:
    table = figures(answers[0], manifest, threshold=0.8)
    assert set(table["modality"]) == {"fused", "visual", "audio", "lipsync"}
    audio = table[table["modality"] == "audio"]
    assert (audio["coverage"] == 0).all()  # this judge has no branches
    assert audio["auc"].isna().all()
    assert audio["false_alarms"].isna().all()


def test_nothing_is_left_behind(
    folder: Path, answers: tuple[pd.DataFrame, BrightnessJudge]
) -> None:
    corrupted = [path for path in answers[1].shown if path.parent != folder]
    assert len(corrupted) == 6 * 3 + 6 * 2  # of six clips the pictures, of six the sound
    assert not any(path.exists() for path in corrupted)


def test_a_run_goes_on_where_it_was(
    folder: Path,
    manifest: pd.DataFrame,
    answers: tuple[pd.DataFrame, BrightnessJudge],
    tmp_path: Path,
) -> None:
    journal = tmp_path / "journal.jsonl"
    text = (folder / "journal.jsonl").read_text()
    journal.write_text(text[: len(text) // 2])  # a kill in the middle of a line
    kept = journal.read_text().count("\n") - 1
    judge = BrightnessJudge()
    again = run(manifest, Media(folder), judge, WANTED, journal)
    columns = ["path", "corruption", "level", "status", "fake_probability"]
    pd.testing.assert_frame_equal(again[columns], answers[0][columns])
    assert len(judge.shown) < len(answers[1].shown)
    assert len(again) == len(manifest) * len(WANTED) > kept
    idle = BrightnessJudge()
    run(manifest, Media(folder), idle, WANTED, journal)
    assert idle.shown == [folder / "missing.mp4"]  # it may be there by now


def test_answers_of_other_models_are_not_mixed_in(
    folder: Path, manifest: pd.DataFrame, answers: tuple[pd.DataFrame, BrightnessJudge]
) -> None:
    with pytest.raises(TableError, match="other models"):
        run(manifest, Media(folder), BrightnessJudge("b"), WANTED, folder / "journal.jsonl")


def test_one_class_is_no_crash(
    answers: tuple[pd.DataFrame, BrightnessJudge],
    manifest: pd.DataFrame,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from rich.console import Console

    real = manifest[manifest["label"] == 0]
    table = answers[0][answers[0]["path"].isin(real["path"])]
    rows = figures(table, real, threshold=0.8)
    assert rows["auc"].isna().all()
    assert rows["false_alarms"].notna().any()
    show(rows, Console(width=120))
    assert "needs both classes" in capsys.readouterr().out


def test_from_the_command_line(
    tmp_path: Path, detector: Detector, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate(("a.mp4", "b.mp4")):
        frames, _ = moving_portrait(30, 25, seed=seed)
        write_clip(tmp_path / name, frames, fps=25)
    (tmp_path / "clips.csv").write_text("path,label\na.mp4,real\nb.mp4,fake\n")
    out = tmp_path / "out"
    command = [str(tmp_path / "clips.csv"), "--out", str(out), "--only", "flip", "blur", "aac"]
    assert main([*command, "--levels", "5", "--threads", "1"]) == 0
    table = pd.read_csv(out / "robustness.csv")
    fused = table[table["modality"] == "fused"].set_index("corruption")
    assert list(fused.index) == ["clean", "blur", "flip", "aac"]
    assert fused.loc["flip", "coverage"] == 1.0
    assert fused.loc["aac", "clips"] == 0  # both are silent

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    report = json.loads((out / "robustness.json").read_text(), parse_constant=refuse)
    assert report["bundle"]["sha256"] == detector.bundle.sha256
    assert len(report["rows"]) == len(table)
    picture = cv2.imread(str(out / "robustness.png"))
    assert np.ptp(picture) > 200
    assert "1 of 1" in capsys.readouterr().out


def test_a_run_without_any_answer_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clips.csv").write_text("path,label\ngone.mp4,real\n")
    command = [str(tmp_path / "clips.csv"), "--out", str(tmp_path / "out"), "--only", "flip"]
    assert main(command) == 1
    assert "None of the clips" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["manifest.csv", "--levels", "0,6"], "--levels"),
        (["manifest.csv", "--levels", "x"], "--levels"),
        (["manifest.csv", "--only", "rain"], "rain"),
        (["nothing.csv"], "no table"),
        (["manifest.csv", "--where", "label=7"], "No clip of the manifest"),
        (["manifest.csv", "--bundle", "nobody"], "no bundle"),
        (["manifest.csv", "--root", "none.zip"], "no folder, zip"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    word: str,
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert word in capsys.readouterr().err
