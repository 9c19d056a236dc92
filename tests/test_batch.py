"""A row a file, whatever happens: to the file, to its worker, or to the run."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Generator, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from avfake.batch import Outcome, Progress, run
from avfake.limits import Limits
from avfake.scores import Scores
from avfake.sources import Files
from avfake.types import AvfakeError, Prediction
from avfake.workers import Job, Models, judge_each
from tests.clips import grey_frames, remux, write_clip
from tests.scripted import BUNDLE, Scripted, run_scripted


def made(folder: Path, contents: dict[str, str]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """Path -> row, but for the seconds that it took; each path once."""
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert not [path for path, n in Counter(row["path"] for row in found).items() if n > 1]
    return {row["path"]: {k: v for k, v in row.items() if k != "seconds"} for row in found}


def here(jobs: Iterable[Job]) -> Generator[tuple[Job, Prediction], None, None]:
    """An engine without processes."""
    for job in jobs:
        yield job, Scripted().predict(os.fspath(job.path))


def batch(inputs: list[Path], out: Path, engine: Any = here, **more: Any) -> Outcome:
    stale = {"is_stale": more.pop("is_stale")} if "is_stale" in more else {}
    with Files(inputs) as files, Scores(out, "models", {}, True, **stale) as scores:
        return run(files, scores, engine, BUNDLE, **more)


# Rows


def test_every_file_has_a_row_whatever_it_is(tmp_path: Path) -> None:
    clips = made(
        tmp_path / "clips",
        {"a.mp4": "ok 1", "b.txt": "bad", "sub/c": "abstain", "._a.mp4": "x", ".DS_Store": "x"},
    )
    (clips / "sub" / "link").symlink_to(clips)
    (clips / "dangling.mp4").symlink_to("nowhere")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("in/d.mp4", "bad")
        archive.writestr("in/huge.mp4", "ok" + " " * 5000)
    (tmp_path / "no.zip").write_text("no zip")
    out = clips / "scores.jsonl"  # in the very folder that is judged: no input of its own
    outcome = batch(
        [clips, tmp_path / "z.zip", tmp_path / "no.zip", clips / "a.mp4"],
        out,
        lambda jobs: (
            (job, Prediction("x", "error", "not_found", "No."))
            if not os.path.exists(job.path)
            else next(here([job]))
            for job in jobs
        ),
        limits=Limits(bytes=4000),
    )
    found = {os.path.relpath(path, tmp_path): row for path, row in rows(out).items()}
    assert {path: (row["reason"] or row["status"], row["size"]) for path, row in found.items()} == {
        "clips/a.mp4": ("ok", 4),
        "clips/b.txt": ("not_media", 3),
        "clips/dangling.mp4": ("not_found", None),
        "clips/sub/c": ("no_evidence", 7),
        "clips/sub/link": ("not_a_file", None),
        "z.zip/in/d.mp4": ("not_media", 3),
        "z.zip/in/huge.mp4": ("file_too_large", 5002),
        "no.zip": ("not_readable", 6),
    }
    assert found["z.zip/in/d.mp4"]["message"] == "d.mp4 is bad."
    assert all(row["bundle"] == BUNDLE for row in found.values())
    assert (outcome.total, outcome.count("ok"), outcome.judged) == (8, 1, 8)


def test_a_row_is_what_predict_prints_and_more(
    tmp_path: Path, sample_path: Path, sample_prediction: Prediction
) -> None:
    answered = partial(map, lambda job: (job, sample_prediction))

    def engine(jobs: Iterable[Job]) -> Generator[tuple[Job, Prediction], None, None]:
        yield from answered(jobs)

    for brief in (False, True):
        out = tmp_path / f"{brief}.jsonl"
        batch([sample_path], out, engine, brief=brief)
        (row,) = rows(out).values()
        expected = sample_prediction.to_dict() | {"path": str(sample_path), "bundle": BUNDLE}
        del expected["seconds"]
        if brief:
            assert len(out.read_bytes()) < 1500
            for branch in expected["branches"].values():
                del branch["windows"]
            for track in expected["tracks"]:
                del track["boxes"]
        expected |= {"size": sample_path.stat().st_size, "quarantined": False, "settings": {}}
        assert row == expected


def test_progress_has_a_rate_and_an_end(tmp_path: Path) -> None:
    clips = made(tmp_path / "clips", {f"{n}.mp4": "ok" if n % 2 else "bad" for n in range(20)})
    told: list[Progress] = []
    batch([clips, clips], tmp_path / "s.jsonl", tell=told.append)
    assert [progress.done for progress in told] == [*range(21), 20]
    assert (told[0].total, told[0].rate) == (40, None)  # not known yet that each is there twice
    assert told[-1].total == 20
    assert told[-1].unscored == 10
    assert told[10].rate is not None
    assert told[10].left == pytest.approx((told[10].total - 10) / told[10].rate)


# Going on


def test_a_second_run_judges_what_is_new_or_has_changed(tmp_path: Path) -> None:
    clips = made(tmp_path / "clips", {"a": "ok", "b": "bad", "c": "ok"})
    out = tmp_path / "s.jsonl"
    batch([clips], out)
    before = out.read_bytes()
    assert batch([clips], out).judged == 0
    assert out.read_bytes() == before
    made(clips, {"d": "ok"})
    (clips / "c").unlink()
    outcome = batch([clips], out)
    assert (outcome.judged, outcome.kept, outcome.total) == (1, 2, 3)
    assert out.read_bytes().startswith(before)
    made(clips, {"a": "abstain"})

    def is_stale(name: str, member: str | None, row: dict[str, Any]) -> bool:
        return Path(name).exists() and Path(name).stat().st_size != row["size"]

    outcome = batch([clips], out, is_stale=is_stale)
    assert (outcome.judged, outcome.renewed) == (1, 1)
    assert {Path(path).name: row["status"] for path, row in rows(out).items()} == {
        "a": "abstain",
        "b": "error",
        "c": "ok",
        "d": "ok",
    }


def test_what_the_engine_raises_leaves_the_rows_before(tmp_path: Path) -> None:
    def engine(jobs: Iterable[Job]) -> Generator[tuple[Job, Prediction], None, None]:
        for number, answer in enumerate(here(jobs)):
            if number == 2:
                raise AvfakeError("no_worker", "None lives.")
            yield answer

    clips = made(tmp_path / "clips", dict.fromkeys("abcd", "ok"))
    with pytest.raises(AvfakeError, match="None lives"):
        batch([clips], tmp_path / "s.jsonl", engine)
    assert batch([clips], tmp_path / "s.jsonl").kept == 2


def test_no_room_to_unpack_stops_the_run_and_blames_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("a.mp4", "ok")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("avfake.sources.shutil.copyfileobj", full)
    with pytest.raises(AvfakeError, match="the disk is full") as caught:
        batch([tmp_path / "z.zip"], tmp_path / "s.jsonl")
    assert caught.value.reason == "not_writable"
    assert rows(tmp_path / "s.jsonl") == {}


# Faults


def test_what_a_file_does_to_its_worker_costs_its_own_row_alone(tmp_path: Path) -> None:
    marker = tmp_path / "seen"
    faults = {
        "crash": ("segfault", "worker_crashed"),
        "leave": ("exit", "worker_exited"),
        "stall": ("sleep", "timeout"),
        "grow": ("allocate", "out_of_memory"),
        "talk": ("print", "too_much_output"),
    }
    contents = {f"{name}.mp4": content for name, (content, _) in faults.items()}
    clips = made(tmp_path / "clips", contents | {f"ok{n}.mp4": f"ok {n}" for n in range(8)})
    made(clips, {"once.mp4": f"once {marker}"})
    out = tmp_path / "s.jsonl"
    outcome = run_scripted([str(clips)], out, timeout=6.0)
    found = {Path(path).stem: row for path, row in rows(out).items()}
    for name, (_, reason) in faults.items():
        row = found.pop(name)
        assert (row["status"], row["reason"], row["quarantined"]) == ("error", reason, True), name
        assert row["message"].startswith(f"{name}.mp4 ")
        assert row["message"].endswith(", twice.")
    once = found.pop("once")
    assert (once["status"], once["warnings"], once["quarantined"]) == ("ok", ["retried"], False)
    assert len(found) == 8
    assert all(row["status"] == "ok" and not row["warnings"] for row in found.values())
    assert {Path(path).stem: reason for path, reason in outcome.quarantined} == {
        name: reason for name, (_, reason) in faults.items()
    }
    assert (outcome.in_quarantine, outcome.count("ok")) == (5, 9)


def test_a_file_that_cost_a_cluster_its_workers_is_in_quarantine_too(tmp_path: Path) -> None:
    clips = made(tmp_path / "clips", {"a.mp4": "ok 1", "b.mp4": "ok 2"})

    def engine(jobs: Iterable[Job]) -> Generator[tuple[Job, Prediction], None, None]:
        for job in jobs:
            yield job, Prediction("x", "error", "worker_lost", "It is lost.")

    outcome = batch([clips], tmp_path / "s.jsonl", engine)
    assert all(row["quarantined"] for row in rows(tmp_path / "s.jsonl").values())
    assert outcome.in_quarantine == len(outcome.quarantined) == 2


@pytest.fixture(scope="module")
def small_clips(tmp_path_factory: pytest.TempPathFactory, sample_path: Path) -> list[str]:
    """A face that talks, the same silent, greys, and what is damaged in two ways."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "talks.mp4").write_bytes(sample_path.read_bytes())
    remux(sample_path, folder / "silent.mp4", with_sound=False)
    (folder / "cut.mp4").write_bytes(sample_path.read_bytes()[:50_000])
    write_clip(folder / "grey.mp4", grey_frames([80] * 20))
    (folder / "text.mp4").write_text("no film")
    return sorted(map(str, folder.iterdir()))


def test_scores_depend_on_nothing_but_the_file(tmp_path: Path, small_clips: list[str]) -> None:
    """Nor on how many are judged at once, in which order, or what was judged before."""
    orders = [small_clips, small_clips[::-1], small_clips[2:] + small_clips[:2]]
    seen = []
    for workers, order in enumerate(orders, 1):
        out = tmp_path / f"{workers}.jsonl"
        engine = partial(judge_each, load=Models(threads=1), workers=workers)
        batch([Path(path) for path in order], out, engine, timeout=600.0)
        seen.append(rows(out))
    assert seen[0] == seen[1] == seen[2]
    (alone,) = [path for path in small_clips if "talks" in path]
    batch(
        [Path(alone)],
        tmp_path / "alone.jsonl",
        partial(judge_each, load=Models(threads=1), workers=1),
        timeout=600.0,
    )
    assert rows(tmp_path / "alone.jsonl")[alone] == seen[0][alone]
    assert [row["status"] for _, row in sorted(seen[0].items())].count("ok") == 3


# Kills


@pytest.fixture
def many(tmp_path: Path) -> list[str]:
    """A folder and a zip of files, of which one takes its worker down."""
    clips = made(tmp_path / "clips", {f"{n:03d}.mp4": f"ok {n % 7}" for n in range(200)})
    made(clips, {"005.mp4": "exit", "017.mp4": "abstain", "020.mp4": "bad"})
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for number in range(100):
            archive.writestr(f"{number}.mp4", f"ok {number % 3}")
    return ["clips", "z.zip"]


@pytest.mark.parametrize("out", ["scores.jsonl", "scores/"])
def test_killed_at_any_moment_it_ends_as_if_nothing_had_happened(
    tmp_path: Path, many: list[str], out: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the kills fall at random moments, the others into the midst of a row."""
    chance = random.Random(out)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    mark = f"{tmp_path}-{out}"
    environment = os.environ | {
        "PYTHONPATH": str(repository),
        "TMPDIR": str(temporary),
        "AVFAKE_MARK": mark,
    }

    def start(writes: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.scripted", str(writes), out, *many]
        return subprocess.Popen(command, cwd=tmp_path, env=environment)

    kills = torn = 0
    for number in range(10):
        process = start(chance.randint(1, 20) if number % 2 else 0)
        if number % 2 == 0:
            # Not before it has begun, which takes longest.
            before, until = written(tmp_path / out), time.monotonic() + 300
            while written(tmp_path / out) == before and process.poll() is None:
                assert time.monotonic() < until
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.25))
            process.kill()
        kills += process.wait(timeout=300) == -9
        torn += last_byte(tmp_path / out) != b"\n"
    assert kills == 10
    assert torn >= 5
    process = start(0)
    assert process.wait(timeout=300) == 0
    seen = rows(tmp_path / out)
    assert len(seen) == 300
    monkeypatch.chdir(tmp_path)
    run_scripted(many, tmp_path / "whole.jsonl")
    assert seen == rows(tmp_path / "whole.jsonl")
    assert marked(mark) == []
    assert list(temporary.iterdir()) == []


def written(out: Path) -> int:
    files = out.glob("*.jsonl") if out.is_dir() else [out]
    return sum(file.stat().st_size for file in files if file.exists())


def last_byte(out: Path) -> bytes:
    file = max(out.glob("*.jsonl")) if out.is_dir() else out
    return file.read_bytes()[-1:]


def marked(mark: str, patience: float = 10.0) -> list[int]:
    """Processes that were started with a mark in their environment and do not end."""
    until = time.monotonic() + patience
    while True:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("AVFAKE_MARK") == mark:
                    found.append(process.pid)
            except psutil.Error:
                continue
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.1)
