"""Worker processes that crash, hang and fail lose one clip each, never a neighbour."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from avfake.types import AvfakeError
from training import batches
from training.batches import Job, Outcome, duration, records, run
from training.shards import Folder, Shards, read_bytes


@dataclass(frozen=True)
class Named:
    path: str


def handler() -> Callable[[Named], Outcome]:
    return handle


def handle(item: Named) -> Outcome:
    """Does what the clip's name says."""
    if item.path.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if item.path.startswith("hang"):
        time.sleep(60)
    if item.path.startswith("bug"):
        raise KeyError(item.path)
    if item.path.startswith("broken"):
        raise AvfakeError("not_media", "no clip")
    row = {"path": f"{item.path}.bin", "clip": item.path}
    return Outcome({"things": [row]}, {f"{item.path}.bin": item.path.encode() * 100})


def no_handler() -> Callable[[Named], Outcome]:
    raise OSError("there is no such model")


def test_every_clip_is_done_once_whatever_its_neighbours_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(batches, "BATCH", 3)
    names = ["a", "crash", "b", "c", "bug", "hang", "d", "broken", "e", "f", "crash2"]
    job = Job(handler, Shards(tmp_path), tmp_path / "batches")
    run(job, [Named(name) for name in names], workers=2, timeout=2.0, what="test")
    done = list(records(job.records))
    assert [clip for record in done for clip in record["clips"]] == names
    things = [row for record in done for row in record["rows"].get("things", ())]
    assert [row["clip"] for row in things] == list("abcdef")
    for row in things:
        assert row["member"] == f"{row['clip']}.bin"
        assert read_bytes(tmp_path, row["path"]) == row["clip"].encode() * 100
    skipped = {
        row["path"]: row["why"] for record in done for row in record["rows"].get("skipped", ())
    }
    assert skipped == {
        "crash": "crashed",
        "crash2": "crashed",
        "bug": "failed:KeyError",
        "hang": "timeout",
        "broken": "not_media",
    }
    assert not list(tmp_path.rglob("*.part"))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("test: 11 of 11 clips")


def test_a_second_run_does_only_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH", 2)
    job = Job(handler, Folder(tmp_path), tmp_path / "batches")
    run(job, [Named(name) for name in "abc"], workers=1, timeout=60.0, what="test")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    run(job, [Named(name) for name in "abcd"], workers=1, timeout=60.0, what="test")
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert {path.name for path in set(after) - set(before)} == {"d.bin", "00002.json"}
    assert all(after[path] == before[path] for path in before)


def test_a_lost_record_is_made_again_under_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill after the files and before the record leaves just this."""
    monkeypatch.setattr(batches, "BATCH", 1)
    job = Job(handler, Shards(tmp_path), tmp_path / "batches")
    items = [Named(name) for name in "abc"]
    run(job, items, workers=1, timeout=60.0, what="test")
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*.*")}
    (tmp_path / "batches/00001.json").unlink()
    (tmp_path / "shards/00001.1.part").write_bytes(b"half")
    run(job, items, workers=1, timeout=60.0, what="test")
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_workers_that_cannot_start_end_the_run(tmp_path: Path) -> None:
    job = Job(no_handler, Folder(tmp_path), tmp_path / "batches")
    with pytest.raises(RuntimeError, match="before its first clip"):
        run(job, [Named("a")], workers=1, timeout=60.0, what="test")


def test_durations_are_for_people() -> None:
    assert [duration(s) for s in (7, 60, 3400, 28_080)] == ["7 s", "1 min", "57 min", "7 h 48 min"]
