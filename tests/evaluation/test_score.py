"""Scoring a manifest: a row a clip whatever happens, and nothing scored twice."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from avfake.bundle import Bundle
from avfake.fusion import Fusion
from avfake.types import BRANCHES, BranchScore, Prediction, probability
from avfake.workers import Job, Models, judge_each
from evaluation.media import Media
from evaluation.protocols import SCORES, TableError, read_manifest, read_scores
from evaluation.score import figures, main, score, score_row


class Counting:
    """Answers at once, and counts; `dies_at` stops it there as a kill would."""

    def __init__(self, answer: Prediction, dies_at: int = -1) -> None:
        self.answer, self.dies_at = answer, dies_at
        self.asked: list[Path] = []

    def __call__(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Prediction]]:
        for job in jobs:
            if len(self.asked) == self.dies_at:
                raise KeyboardInterrupt
            self.asked.append(Path(job.path))
            yield job, self.answer


def real_thing(jobs: Iterable[Job]) -> Iterator[tuple[Job, Prediction]]:
    """What the command uses."""
    return judge_each(jobs, Models(threads=1), workers=2)


def manifest_of(folder: Path, names: list[str]) -> pd.DataFrame:
    rows = "".join(f"{name},{index % 2}\n" for index, name in enumerate(names))
    (folder / "m.csv").write_text("path,label\n" + rows)
    return read_manifest(folder / "m.csv")


def test_a_row_holds_all_that_the_detector_said(
    bundle: Bundle, sample_prediction: Prediction
) -> None:
    fusion = Fusion(bundle)
    row = score_row("a/sample.mp4", sample_prediction, fusion, bundle.sha256)
    assert list(row) == list(SCORES)
    answer = sample_prediction.to_dict()
    assert row["fake_probability"] == answer["fake_probability"]
    assert json.loads(row["visual_windows"]) == answer["branches"]["visual"]["windows"]
    assert row["duration"] == answer["media"]["duration"]
    for name in BRANCHES:
        scores = {**sample_prediction.branches, name: BranchScore.absent("x")}
        without = fusion.fuse(scores)
        assert without is not None
        assert row[f"without_{name}"] == probability(without)
    assert len({row[f"without_{name}"] for name in BRANCHES}) == 3


@pytest.mark.parametrize("name", ["scores.parquet", "scores.csv"])
def test_good_and_bad_clips_get_a_row(
    bundle: Bundle, sample_path: Path, tmp_path: Path, name: str
) -> None:
    shutil.copy(sample_path, tmp_path / "good clip.mp4")
    (tmp_path / "text.mp4").write_text("no video at all")
    manifest = manifest_of(tmp_path, ["good clip.mp4", "text.mp4", "gone.mp4"])
    table = score(manifest, Media(tmp_path), bundle, real_thing, tmp_path / name).set_index("path")
    assert table.loc["good clip.mp4", "status"] == "ok"
    assert 0 < table.loc["good clip.mp4", "fake_probability"] < 1
    for path, reason in (("text.mp4", "not_media"), ("gone.mp4", "not_found")):
        assert table.loc[path, "status"] == "error"
        assert table.loc[path, "reason"] == reason
        assert np.isnan(table.loc[path, "fake_probability"])
    assert not (tmp_path / f"{name}.jsonl").exists()


def test_a_run_that_was_stopped_goes_on(
    bundle: Bundle, sample_prediction: Prediction, tmp_path: Path
) -> None:
    manifest = manifest_of(tmp_path, ["a", "b", "c", "d"])
    out = tmp_path / "s.parquet"
    with pytest.raises(KeyboardInterrupt):
        score(manifest, Media(tmp_path), bundle, Counting(sample_prediction, 2), out)
    with (tmp_path / "s.parquet.jsonl").open("a") as journal:
        journal.write('{"path": "c", "sta')  # killed while writing
    again = Counting(sample_prediction)
    table = score(manifest, Media(tmp_path), bundle, again, out)
    assert [path.name for path in again.asked] == ["c", "d"]
    assert table["path"].tolist() == ["a", "b", "c", "d"]
    more = manifest_of(tmp_path, ["a", "b", "c", "d", "e"])
    last = Counting(sample_prediction)
    assert len(score(more, Media(tmp_path), bundle, last, out)) == 5
    assert [path.name for path in last.asked] == ["e"]
    assert read_scores(out)["fake_probability"].nunique() == 1


def test_scores_of_other_models_are_not_mixed(
    bundle: Bundle, sample_prediction: Prediction, tmp_path: Path
) -> None:
    manifest = manifest_of(tmp_path, ["a"])
    out = tmp_path / "s.csv"
    out.write_text("path,fake_probability,status,bundle\nz,0.5,ok,0123\n")
    with pytest.raises(TableError, match="other models"):
        score(manifest, Media(tmp_path), bundle, Counting(sample_prediction), out)


def test_a_zip_is_scored_as_it_is(
    bundle: Bundle, sample_prediction: Prediction, tmp_path: Path
) -> None:
    archive = tmp_path / "train_sample_videos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("videos/metadata.json", json.dumps({"a.mp4": {"label": "FAKE"}}))
        file.writestr("videos/a.mp4", b"pictures")
    asked = Counting(sample_prediction)
    table = score(read_manifest(archive), Media(archive), bundle, asked, tmp_path / "s.csv")
    assert table["path"].tolist() == ["videos/a.mp4"]
    assert not asked.asked[0].exists()


def test_clips_that_a_zip_does_not_give_are_rows_with_a_reason(
    bundle: Bundle, sample_prediction: Prediction, tmp_path: Path
) -> None:
    archive = tmp_path / "clips.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("good.mp4", b"good pictures")
        file.writestr("bad.mp4", b"bad pictures")
    archive.write_bytes(archive.read_bytes().replace(b"bad pictures", b"BAD pictures"))
    manifest = manifest_of(tmp_path, ["good.mp4", "bad.mp4", "gone.mp4"])
    asked = Counting(sample_prediction)
    table = score(manifest, Media(archive), bundle, asked, tmp_path / "s.csv")
    assert table["reason"].tolist() == ["", "not_readable", "not_found"]


def test_errors_are_tried_again_and_the_rest_is_not(
    bundle: Bundle, sample_prediction: Prediction, tmp_path: Path
) -> None:
    (tmp_path / "there").write_bytes(b"")
    manifest = manifest_of(tmp_path, ["there", "late"])
    out = tmp_path / "s.csv"
    asked = Counting(sample_prediction)
    with zipfile.ZipFile(tmp_path / "clips.zip", "w") as file:
        file.writestr("there", b"")
    table = score(manifest, Media(tmp_path / "clips.zip"), bundle, asked, out)
    assert table["status"].tolist() == [sample_prediction.status, "error"]
    asked = Counting(sample_prediction)
    table = score(manifest, Media(tmp_path), bundle, asked, out)
    assert [path.name for path in asked.asked] == ["late"]
    assert table["path"].tolist() == ["there", "late"]
    assert table["status"].nunique() == 1


def test_faults_of_the_user_end_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest_of(tmp_path, ["a"])
    manifest = str(tmp_path / "m.csv")
    (tmp_path / "bad.zip").write_text("no zip")
    (tmp_path / "s.csv.jsonl").write_text("no journal\n")
    for arguments, told in (
        ([str(tmp_path / "none.csv")], "no table"),
        ([manifest, "--root", str(tmp_path / "nowhere")], "no folder, zip"),
        ([manifest, "--root", str(tmp_path / "bad.zip")], "is no zip"),
        ([str(tmp_path / "bad.zip")], "is no zip"),
        ([manifest, "--out", str(tmp_path)], "is a folder"),
        ([manifest, "--out", manifest + "/s.csv"], "cannot be written"),
        ([manifest], "is no journal"),
        ([manifest, "--where", "label=real", "--where", "path=b"], "label=real and path=b"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["--out", str(tmp_path / "s.csv"), *arguments])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.startswith("evaluation.score: ")
        assert error.count("\n") == 1


def test_a_run_without_any_score_is_no_success(tmp_path: Path) -> None:
    manifest_of(tmp_path, ["gone.mp4"])
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "m.csv"), "--out", str(tmp_path / "s.csv")])
    assert stop.value.code == 1
    assert read_scores(tmp_path / "s.csv")["reason"].tolist() == ["not_found"]


def test_figures_leave_out_what_has_no_answer(tmp_path: Path) -> None:
    table = manifest_of(tmp_path, list("abcdef"))
    table["fake_probability"] = [0.2, 0.7, 0.4, 0.9, 0.1, np.nan]
    for branch in BRANCHES:
        table[f"{branch}_probability"] = np.nan
    fused, visual, *_ = figures(table).to_dict("records")
    assert fused["clips"] == 5
    assert fused["coverage"] == pytest.approx(5 / 6)
    assert fused["auc"] == 1
    assert fused["log_loss"] == pytest.approx(-np.log([0.8, 0.7, 0.6, 0.9, 0.9]).mean())
    assert visual["clips"] == 0
    assert np.isnan(visual["auc"])
