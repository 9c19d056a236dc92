"""A file that takes its worker down, or never ends, costs no other file anything."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avfake.types import AvfakeError, Prediction
from avfake.workers import FAULTS, Job, Judge, Models, judge_each
from tests.processes import gone


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
        if what == "once":  # takes its worker down, but only the first time
            marker = Path(path).with_suffix(".seen")
            if not marker.exists():
                marker.touch()
                os._exit(1)
        seconds = {"seen": float(self.seen), "longest": longest or 0.0, "pid": float(os.getpid())}
        return Prediction(path, "ok", logit=0.0, verdict="uncertain", seconds=seconds)


def damaged() -> Judge:
    raise AvfakeError("bundle_damaged", "The bundle is damaged.")


def answers(
    names: list[str], workers: int = 1, timeout: float = 60, **more: Any
) -> dict[str, Prediction]:
    jobs = (Job(name, timeout=timeout) for name in names)
    return {str(job.path): answer for job, answer in judge_each(jobs, Fragile, workers, **more)}


def test_the_answers_are_the_detectors(sample_path: Path, sample_prediction: Prediction) -> None:
    jobs = [Job(sample_path), Job("nobody.mp4"), Job(sample_path, longest=2.0)]
    seen = {job: answer for job, answer in judge_each(jobs, Models(threads=1), workers=1)}
    assert list(seen) == jobs
    whole, missing, start = seen.values()
    assert whole.logit == pytest.approx(sample_prediction.logit, abs=1e-4)
    assert (missing.status, missing.reason) == ("error", "not_found")
    assert start.warnings == ("truncated",)


@pytest.mark.parametrize(("bad", "cause"), [("exit-1.mp4", "status 3"), ("kill.mp4", "SIGKILL")])
def test_a_file_that_kills_its_worker_is_told_and_costs_no_other(bad: str, cause: str) -> None:
    seen = answers(["a.mp4", bad, "b.mp4"])
    assert [answer.status for answer in seen.values()] == ["ok", "error", "ok"]
    assert seen[bad].path == bad
    assert seen[bad].reason in FAULTS
    assert seen[bad].message is not None
    assert cause in seen[bad].message


def test_a_file_that_takes_too_long_is_stopped() -> None:
    started = time.perf_counter()
    seen = answers(["a.mp4", "sleep.mp4", "b.mp4"], timeout=3)
    assert [answer.reason for answer in seen.values()] == [None, "timeout", None]
    assert time.perf_counter() - started < 30


def test_a_file_is_tried_again_and_then_given_up(tmp_path: Path) -> None:
    once = str(tmp_path / "once.mp4")
    seen = answers(["a.mp4", "exit.mp4", once, "b.mp4"], attempts=2)
    assert [answer.status for answer in seen.values()] == ["ok", "error", "ok", "ok"]
    assert seen["exit.mp4"].message == "exit.mp4 ended its worker with exit status 3, twice."
    assert seen[once].warnings == ("retried",)
    assert seen["b.mp4"].warnings == ()


def test_a_worker_has_a_ceiling_of_memory() -> None:
    with pytest.raises(AvfakeError, match="memory") as error:  # even its start is above this one
        answers(["a.mp4"], memory=1 << 20)
    assert error.value.reason == "no_worker"


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
