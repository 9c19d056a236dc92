"""A file that takes its worker down, or never ends, costs no other file anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfake.batch import Job, Judge, Models, judge_each
from avfake.types import AvfakeError, Prediction


class Fragile:
    """Does what a file's name says."""

    def __init__(self) -> None:
        self.seen = 0

    def predict(self, path: str, longest: float | None = None) -> Prediction:
        self.seen += 1
        what = Path(path).stem.split("-")[0]
        if what == "exit":
            os._exit(3)
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "sleep":
            time.sleep(600)
        if what == "after":  # dies once it has answered, between two files
            signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        seconds = {"seen": float(self.seen), "longest": longest or 0.0, "pid": float(os.getpid())}
        return Prediction(path, "ok", logit=0.0, verdict="uncertain", seconds=seconds)


def damaged() -> Judge:
    raise AvfakeError("bundle_damaged", "The bundle is damaged.")


def answers(names: list[str], workers: int = 1, timeout: float = 60) -> dict[str, Prediction]:
    jobs = (Job(name, timeout=timeout) for name in names)
    return {str(job.path): answer for job, answer in judge_each(jobs, Fragile, workers)}


def test_the_answers_are_the_detectors(sample_path: Path, sample_prediction: Prediction) -> None:
    jobs = [Job(sample_path), Job("nobody.mp4"), Job(sample_path, longest=2.0)]
    seen = {job: answer for job, answer in judge_each(jobs, Models(threads=1), workers=1)}
    assert list(seen) == jobs
    whole, missing, start = seen.values()
    assert whole.logit == pytest.approx(sample_prediction.logit, abs=1e-4)
    assert (missing.status, missing.reason) == ("error", "not_found")
    assert start.warnings == ("truncated",)


@pytest.mark.parametrize(("bad", "cause"), [("exit-1.mp4", "exit status 3"), ("kill.mp4", "9")])
def test_a_file_that_kills_its_worker_is_told_and_costs_no_other(bad: str, cause: str) -> None:
    seen = answers(["a.mp4", bad, "b.mp4"])
    assert [answer.status for answer in seen.values()] == ["ok", "error", "ok"]
    assert (seen[bad].path, seen[bad].reason) == (bad, "worker_crashed")
    assert seen[bad].message is not None
    assert cause in seen[bad].message


def test_a_file_that_takes_too_long_is_stopped() -> None:
    started = time.perf_counter()
    seen = answers(["a.mp4", "sleep.mp4", "b.mp4"], timeout=3)
    assert [answer.reason for answer in seen.values()] == [None, "timeout", None]
    assert time.perf_counter() - started < 30


def test_a_worker_that_dies_between_two_files_is_replaced() -> None:
    def jobs() -> Iterator[Job]:
        yield Job("after.mp4")
        time.sleep(0.5)
        yield Job("a.mp4")

    assert [answer.status for _, answer in judge_each(jobs(), Fragile, 1)] == ["ok", "ok"]


def test_workers_load_once_and_share_the_work() -> None:
    seen = answers([f"{i}.mp4" for i in range(40)], workers=2)
    assert len(seen) == 40
    assert 1 <= len({answer.seconds["pid"] for answer in seen.values()}) <= 2
    assert max(answer.seconds["seen"] for answer in seen.values()) >= 20  # one object, many files


def test_the_next_job_is_asked_for_when_a_worker_is_free() -> None:
    asked = []

    def jobs() -> Iterator[Job]:
        for index in range(5):
            asked.append(index)
            yield Job(f"{index}.mp4", longest=1.0 + index)

    for job, answer in judge_each(jobs(), Fragile, 1):
        assert answer.seconds["longest"] == job.longest
        assert asked[-1] == int(Path(job.path).stem)


def test_models_that_cannot_be_loaded_are_the_callers_fault() -> None:
    with pytest.raises(AvfakeError, match="damaged"):
        list(judge_each([Job("a.mp4")], damaged, 1))


def test_leaving_early_stops_the_workers() -> None:
    for _, answer in judge_each([Job("a.mp4"), Job("sleep.mp4")], Fragile, 1):
        pid = int(answer.seconds["pid"])
        break
    assert gone(pid)


ORPHAN = """
import sys
from avfake.batch import Job, judge_each
from tests.test_batch import Fragile

if __name__ == "__main__":
    for _, answer in judge_each([Job("a.mp4"), Job("sleep.mp4")], Fragile, 1):
        print(int(answer.seconds["pid"]), flush=True)
"""


def test_workers_do_not_outlive_a_parent_that_is_killed(repository: Path, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(ORPHAN)
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(repository)},
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    time.sleep(0.3)  # it is at the second file now, and asleep
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(worker)


def gone(pid: int, patience: float = 10.0) -> bool:
    """Whether a process has ended, or does so in time."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False
