"""Worker processes that crash, hang and fail lose one clip each, never a neighbour."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from avfake.types import AvfakeError
from tests.nodes import kill, three_nodes
from training.batches import Job, Outcome, duration, on_cluster, records, run
from training.shards import Folder, Shards, read_bytes

REPOSITORY = Path(__file__).parents[2]


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
    if item.path.startswith("once"):
        died = Path(os.environ["DIED"])
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)  # as a system out of memory does
    if item.path.startswith("gone"):
        raise AvfakeError("not_found", "There is no file gone.mp4.")
    if item.path.startswith("slow"):
        time.sleep(0.2 if item.path.startswith("slower") else 0.02)
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
    monkeypatch.setenv("DIED", str(tmp_path / "died"))
    names = ["a", "crash", "b", "c", "bug", "hang", "d", "broken", "e", "f", "crash2", "once"]
    job = Job(handler, Shards(tmp_path), tmp_path / "batches", 2.0)
    run(job, [Named(name) for name in names], workers=2, what="test", batch=3)
    done = list(records(job.records))
    assert [clip for record in done for clip in record["clips"]] == names
    things = [row for record in done for row in record["rows"].get("things", ())]
    assert [row["clip"] for row in things] == [*"abcdef", "once"]
    for row in things:
        assert row["member"] == f"{row['clip']}.bin"
        assert read_bytes(tmp_path, row["path"]) == row["clip"].encode() * 100
    skipped = {
        row["path"]: row["why"] for record in done for row in record["rows"].get("skipped", ())
    }
    assert skipped == {
        "crash": "worker_crashed",
        "crash2": "worker_crashed",
        "bug": "failed:KeyError",
        "hang": "timeout",
        "broken": "not_media",
    }
    assert not list(tmp_path.rglob("*.part"))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("test: 12 of 12 clips")


def test_a_second_run_does_only_what_is_new(tmp_path: Path) -> None:
    job = Job(handler, Folder(tmp_path), tmp_path / "batches", 60.0)
    run(job, [Named(name) for name in "abc"], 1, "test", batch=2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    run(job, [Named(name) for name in "abcd"], 1, "test", batch=2)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert {path.name for path in set(after) - set(before)} == {"d.bin", "00002.json"}
    assert all(after[path] == before[path] for path in before)


def test_a_lost_record_is_made_again_under_its_number(tmp_path: Path) -> None:
    """A kill after the files and before the record leaves just this."""
    job = Job(handler, Shards(tmp_path), tmp_path / "batches", 60.0)
    items = [Named(name) for name in "abc"]
    run(job, items, 1, "test", batch=1)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*.*")}
    (tmp_path / "batches/00001.json").unlink()
    (tmp_path / "shards/00001.1.part").write_bytes(b"half")
    run(job, items, 1, "test", batch=1)
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def run_slowly(out: Path) -> None:
    """60 clips in batches of 3, as a script that can be killed."""
    job = Job(handler, Shards(out), out / "batches", 60.0)
    run(job, [Named(f"slow{index}") for index in range(60)], 2, "test", batch=3)


def content(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def test_a_run_killed_again_and_again_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_slowly(whole)
    finished = [0]
    for pause in (0.0, 0.03, 0.05):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.training.test_batches", str(killed)], cwd=REPOSITORY
        )
        # Into the work, not into the imports: until there is a record more, then a while.
        while len(list(killed.glob("batches/*.json"))) == finished[-1] and process.poll() is None:
            time.sleep(0.01)
        time.sleep(pause)
        process.kill()
        process.wait()
        finished.append(len(list(killed.glob("batches/*.json"))))
    assert 0 < finished[1] < finished[-1] < 20  # it was killed in the middle of things
    run_slowly(killed)
    assert content(killed) == content(whole)


@pytest.mark.slow
def test_a_lost_node_costs_time_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = [Named("crash"), *(Named(f"slower{index}") for index in range(120))]
    near, far = (
        Job(handler, Shards(out), out / "batches", 60.0)
        for out in (tmp_path / "near", tmp_path / "far")
    )
    run(near, items, 2, "near", batch=5)

    def interfere(nodes: Any) -> None:
        while len(list(far.records.glob("*.json"))) < 4:
            time.sleep(0.05)
        kill(nodes, next(iter(nodes.worker_nodes)))

    with three_nodes() as nodes:
        thread = threading.Thread(target=interfere, args=(nodes,))
        thread.start()
        run(far, items, 4, "far", functools.partial(on_cluster, address=nodes.address), batch=5)
        thread.join()
    assert "was lost" in capsys.readouterr().out
    assert content(tmp_path / "far") == content(tmp_path / "near")


def test_workers_that_cannot_start_end_the_run(tmp_path: Path) -> None:
    job = Job(no_handler, Folder(tmp_path), tmp_path / "batches", 60.0)
    with pytest.raises(OSError, match="there is no such model"):
        run(job, [Named("a")], workers=1, what="test")


def test_what_is_no_clips_fault_ends_the_run_and_skips_nothing(tmp_path: Path) -> None:
    job = Job(handler, Shards(tmp_path), tmp_path / "batches", 60.0)
    with pytest.raises(OSError, match=r"There is no file gone.mp4"):
        run(job, [Named("a"), Named("gone")], 1, "test")
    assert not list(records(job.records))
    (tmp_path / "shards").rmdir()
    (tmp_path / "shards").touch()  # nothing can be stored there
    with pytest.raises(OSError, match="shards"):
        run(job, [Named("a")], 1, "test")
    assert not list(records(job.records))


def test_durations_are_for_people() -> None:
    assert [duration(s) for s in (7, 60, 3400, 28_080)] == ["7 s", "1 min", "57 min", "7 h 48 min"]


if __name__ == "__main__":
    run_slowly(Path(sys.argv[1]))
