"""The submission is complete and valid whatever happens: to files, to workers, to the run."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import shutil
import signal
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from avfake.sources import Sources
from avfake.submission import Outcome, Progress, Sample, Settings, log_of, read_sample, submit
from avfake.types import AvfakeError, MediaInfo, Prediction


class Scripted:
    """Does what a file's content says: a logit, or a way to fail."""

    def predict(self, path: str, longest: float | None = None) -> Prediction:
        what, _, duration = Path(path).read_text().partition(" ")
        seconds = float(duration or 10)
        if what == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == "stall" and longest is None:
            time.sleep(600)
        if what == "error":
            message = f"{Path(path).name} is bad."
            return Prediction(path, "error", "not_media", message)
        if what == "abstain":
            return Prediction(path, "abstain", "no_evidence", "Nothing.")
        spent = 0.02 * min(seconds, longest or seconds)
        time.sleep(spent)
        info = MediaInfo(seconds, 64, 64, 25.0, "h264", None, None)
        logit = 0.0 if what == "stall" else float(what)
        return Prediction(
            path, "ok", logit=logit, verdict="uncertain", media=info, seconds={"total": spent}
        )


def videos(folder: Path, contents: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(content)
    return folder


def run(
    folder: Path,
    names: Sequence[str],
    out: Path,
    models: str = "some",
    told: list[Progress] | None = None,
    **settings: Any,
) -> Outcome:
    tell = (lambda progress: None) if told is None else told.append
    with Sources([folder]) as sources:
        return submit(
            sources, Sample(tuple(names)), out, models, Scripted, Settings(**settings), tell
        )


def rows(out: Path, names: Sequence[str]) -> list[float]:
    """The values of a submission that must be complete and valid."""
    with out.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == ["filename", "label"]
    assert [line[0] for line in lines] == list(names)
    values = [float(line[1]) for line in lines]
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in values)
    return values


def log(out: Path, status: str | None = None) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in log_of(out).read_text().splitlines()][1:]
    return [entry for entry in entries if status in (None, entry["status"])]


# What stands in it


def test_scores_are_clipped_and_what_has_none_gets_the_prior(tmp_path: Path) -> None:
    names = ["z.mp4", "bad.mp4", "missing.mp4", "a.mp4", "sure.mp4", "crash.mp4", "grey.mp4"]
    contents = ("1.5", "error", "-2", "20", "crash", "abstain")
    folder = videos(
        tmp_path / "t", dict(zip([n for n in names if n != "missing.mp4"], contents, strict=True))
    )
    (folder / "extra.mp4").write_text("1")
    out = tmp_path / "s.csv"
    outcome = run(folder, names, out, prior=0.4)
    values = rows(out, names)
    expected = [1 / (1 + math.exp(-1.5)), 0.4, 0.4, 1 / (1 + math.exp(2)), 0.99, 0.4, 0.4]
    assert values == pytest.approx(expected, abs=1e-6)
    assert outcome.failures == {
        "bad.mp4": "not_media",
        "missing.mp4": "not_found",
        "crash.mp4": "worker_crashed",
        "grey.mp4": "no_evidence",
    }
    assert outcome.failed_share == pytest.approx(4 / 7)
    assert outcome.not_in_sample == ["extra.mp4"]
    assert {entry["name"]: entry["reason"] for entry in log(out, "error")} == {
        name: reason for name, reason in outcome.failures.items() if name != "grey.mp4"
    }
    assert [entry["name"] for entry in log(out, "ignored")] == ["extra.mp4"]


def test_one_name_twice_keeps_both_its_rows(tmp_path: Path) -> None:
    folder = videos(tmp_path / "t", {"a.mp4": "1"})
    outcome = run(folder, ["a.mp4", "a.mp4"], tmp_path / "s.csv")
    one, other = rows(tmp_path / "s.csv", ["a.mp4", "a.mp4"])
    assert one == other > 0.7
    assert outcome.total == 1


def test_it_is_complete_before_the_first_score_and_after_each(tmp_path: Path) -> None:
    names = [f"{i}.mp4" for i in range(4)]
    folder = videos(tmp_path / "t", dict.fromkeys(names, "3 60"))
    out = tmp_path / "s.csv"
    seen = []

    def look(progress: Progress) -> None:
        seen.append(rows(out, names))

    with Sources([folder]) as sources:
        submit(sources, Sample(tuple(names)), out, "some", Scripted, Settings(), look)
    assert seen[0] == [0.5] * 4
    assert rows(out, names) == pytest.approx([1 / (1 + math.exp(-3))] * 4, abs=1e-6)
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_videos_in_a_zip_are_known_by_their_own_names(tmp_path: Path) -> None:
    folder = videos(tmp_path / "t", {"a.mp4": "1", "b.mp4": "error", "c.mp4": "-1"})
    labels = {"a.mp4": {"label": "FAKE"}, "b.mp4": {"label": "REAL"}}
    (folder / "metadata.json").write_text(json.dumps(labels))
    archive = shutil.make_archive(str(tmp_path / "t"), "zip", tmp_path, "t")
    names = ["a.mp4", "b.mp4", "c.mp4"]
    outcome = run(Path(archive), names, tmp_path / "s.csv", clip=(0.3, 0.7))
    assert rows(tmp_path / "s.csv", names) == pytest.approx([0.7, 0.5, 0.3])
    assert [entry["message"] for entry in log(tmp_path / "s.csv", "error")] == ["b.mp4 is bad."]
    sigmoid = 1 / (1 + math.exp(-1))
    losses = (-(math.log(0.7) + math.log(0.5)) / 2, -(math.log(sigmoid) + math.log(0.5)) / 2)
    assert (outcome.labelled, outcome.losses) == (2, pytest.approx(losses))


def test_what_cannot_be_unpacked_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.mp4", "1" + " " * 5000)
        archive.writestr("b.mp4", "1")
    raw = bytearray(path.read_bytes())
    raw[2000:2010] = b"damaged..."
    path.write_bytes(raw)
    outcome = run(path, ["a.mp4", "b.mp4"], tmp_path / "s.csv")
    assert outcome.failures == {"a.mp4": "not_readable"}


def test_a_disk_that_was_full_while_unpacking_costs_no_score_in_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = tmp_path / "t.zip", tmp_path / "s.csv"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.mp4", "1")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("avfake.sources.shutil.copyfileobj", full)
        assert run(path, ["a.mp4"], out).failures == {"a.mp4": "not_writable"}
    assert run(path, ["a.mp4"], out).failures == {}


@pytest.mark.parametrize("name", ["videos.zip", "a.mp4"])
def test_what_is_to_be_judged_is_not_written_over(tmp_path: Path, name: str) -> None:
    folder = videos(tmp_path / "t", {"a.mp4": "1"})
    with zipfile.ZipFile(folder / "videos.zip", "w") as archive:
        archive.writestr("b.mp4", "1")
    before = (folder / name).read_bytes()
    source = folder / name if name.endswith("zip") else folder
    with pytest.raises(AvfakeError, match="what is to be judged") as caught:
        run(source, ["a.mp4"], folder / name)
    assert caught.value.reason == "usage"
    assert (folder / name).read_bytes() == before
    assert not log_of(folder / name).exists()


# The deadline


def test_short_of_time_it_looks_at_the_beginnings(tmp_path: Path) -> None:
    names = [f"{i}.mp4" for i in range(80)]
    folder = videos(tmp_path / "t", dict.fromkeys(names, "2 10"))  # 16 s for all of it
    started = time.monotonic()
    told: list[Progress] = []
    outcome = run(folder, names, tmp_path / "s.csv", told=told, deadline=9.0)
    assert time.monotonic() - started < 13
    looks = [entry["longest"] for entry in log(tmp_path / "s.csv", "ok")]
    assert len(looks) > 55  # 45 whole ones would take as long
    assert looks[0] is None
    assert 1.0 <= looks[-1] < 9.0
    assert set(outcome.failures.values()) <= {"deadline"}
    assert told[-1].longest is None or told[-1].longest >= 1.0


def test_without_time_it_keeps_the_priors_and_the_next_run_goes_on(tmp_path: Path) -> None:
    names = [f"{i}.mp4" for i in range(60)]
    folder = videos(tmp_path / "t", dict.fromkeys(names, "2 100"))
    out = tmp_path / "s.csv"
    started = time.monotonic()
    outcome = run(folder, names, out, deadline=2.5)
    assert time.monotonic() - started < 20  # all of it would take a minute and more
    assert set(outcome.failures.values()) == {"deadline"}
    assert rows(out, names).count(0.5) == len(outcome.failures)
    for name in names:
        (folder / name).write_text((folder / name).read_text().replace("100", "1.0"))
    outcome = run(folder, names, out)
    assert outcome.failures == {}
    assert 0.5 not in rows(out, names)


def test_a_video_that_takes_too_long_gets_a_second_shorter_look(tmp_path: Path) -> None:
    folder = videos(tmp_path / "t", {"a.mp4": "1", "stall.mp4": "stall"})
    outcome = run(folder, ["stall.mp4", "a.mp4"], tmp_path / "s.csv", timeout=3.0)
    assert outcome.failures == {}
    assert log(tmp_path / "s.csv", "ok")[-1]["longest"] is not None


# Going on


def test_a_second_run_scores_nothing_again(tmp_path: Path) -> None:
    names = ["a.mp4", "bad.mp4", "missing.mp4"]
    folder = videos(tmp_path / "t", {"a.mp4": "1", "bad.mp4": "error"})
    out = tmp_path / "s.csv"
    first = run(folder, names, out)
    before = log_of(out).read_text()
    again = run(folder, names, out)
    assert log_of(out).read_text() == before
    assert (first.judged, again.judged) == (2, 0)
    assert again.failures == first.failures
    (folder / "missing.mp4").write_text("3")
    assert run(folder, names, out).failures == {"bad.mp4": "not_media"}


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    names = ["a.mp4", "b.mp4"]
    folder = videos(tmp_path / "t", dict.fromkeys(names, "1"))
    out = tmp_path / "s.csv"
    run(folder, names, out)
    content = log_of(out).read_bytes()
    for cut in (1, 10, len(content) - 3):
        log_of(out).write_bytes(content[:-cut])
        assert run(folder, names, out).failures == {}
        assert len(log(out, "ok")) >= 2


def begun_before(out: Path, folder: Path, name: str, times: int) -> None:
    line = json.dumps({"name": name, "status": "begun", "size": (folder / name).stat().st_size})
    log_of(out).write_text("\n".join(['{"models": "some"}', *[line] * times, ""]))


def test_what_was_under_way_at_a_kill_is_tried_again_and_last(tmp_path: Path) -> None:
    names = ["a.mp4", "b.mp4", "c.mp4"]
    folder = videos(tmp_path / "t", dict.fromkeys(names, "1"))
    out = tmp_path / "s.csv"
    begun_before(out, folder, "a.mp4", 4)
    assert run(folder, names, out).failures == {}
    assert [entry["name"] for entry in log(out, "ok")] == ["b.mp4", "c.mp4", "a.mp4"]
    begun_before(out, folder, "a.mp4", 5)
    assert run(folder, names, out).failures == {"a.mp4": "interrupted"}


@pytest.mark.parametrize(
    ("change", "words"), [("models", "other models"), ("size", "other videos"), ("log", "else")]
)
def test_the_log_of_another_run_is_not_taken_over(tmp_path: Path, change: str, words: str) -> None:
    folder = videos(tmp_path / "t", {"a.mp4": "1"})
    out = tmp_path / "s.csv"
    run(folder, ["a.mp4"], out)
    before = out.read_bytes()
    if change == "size":
        (folder / "a.mp4").write_text("1.25")
    if change == "log":
        log_of(out).write_text("something\n")
    with pytest.raises(AvfakeError, match=words) as caught:
        run(folder, ["a.mp4"], out, models="others" if change == "models" else "some")
    assert caught.value.reason == "other_run"
    assert out.read_bytes() == before


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    folder = videos(tmp_path / "t", {"a.mp4": "1"})
    with pytest.raises(AvfakeError, match="cannot be written") as caught:
        run(folder, ["a.mp4"], tmp_path / "nobody" / "s.csv")
    assert caught.value.reason == "not_writable"


# The sample


def test_the_sample_is_read_as_kaggle_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    path.write_bytes('\ufefffilename,label\r\n"a, b.mp4",0.5\r\nü.mp4,0.5\r\n\r\n'.encode())
    assert read_sample(path) == Sample(("a, b.mp4", "ü.mp4"), ("filename", "label"))


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "filename,label\n", "filename\na.mp4\n"])
def test_a_file_that_is_no_sample_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "sample.csv").write_text(content)
    with pytest.raises(AvfakeError) as caught:
        read_sample(tmp_path / "sample.csv")
    assert caught.value.reason == "bad_sample"
