"""Many files, each judged in a worker process: one that kills or stalls it costs no other.

    for job, prediction in judge_each(map(Job, paths), Models(threads=1), workers=2):
        print(prediction)

Workers are started afresh, not forked, so a script that calls this needs the usual
`if __name__ == "__main__":`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from avfake.limits import DEFAULT_LIMITS, Limits
from avfake.process import FAULTS, WATCH_EVERY, Fault, Worker
from avfake.types import Prediction

if TYPE_CHECKING:
    from avfake.detector import Detector

__all__ = ["FAULTS", "Job", "Judge", "Models", "cores", "faulted", "judge_each", "name_of"]

Pathlike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Job:
    """One file to judge; each is itself alone, also where two name the same file.

    `longest`: seconds of the clip to look at, None for all (see `Detector.predict`); `timeout`:
    seconds that its worker has for it, before it is stopped.
    """

    path: Pathlike
    longest: float | None = None
    timeout: float = 60.0


class Judge(Protocol):
    """What a worker loads: a `Detector`, or what answers like one."""

    def predict(self, path: str, longest: float | None = None) -> Prediction: ...


@dataclass(frozen=True)
class Models:
    """Which detector a worker loads; the arguments of `Detector.from_pretrained`."""

    bundle: str = "default"
    face_model: str | None = None
    threads: int = 0
    limits: Limits = DEFAULT_LIMITS

    def __call__(self) -> Detector:
        from avfake.detector import Detector

        return Detector.from_pretrained(self.bundle, self.face_model, self.threads, self.limits)


def judge_each(
    jobs: Iterable[Job],
    load: Callable[[], Judge],
    workers: int,
    memory: int | None = DEFAULT_LIMITS.memory,
    attempts: int = 1,
) -> Generator[tuple[Job, Prediction], None, None]:
    """Judge many files in `workers` processes; yield each answer as it comes.

    `jobs` is asked for the next one only when a worker is free for it, so it may decide late.
    `load` (`Models`) is called once in each worker and must be picklable. `memory`: bytes that a
    worker may hold, None for any number. A file that a worker dies of, or that takes too much time,
    memory or output, gives a Prediction with status "error" and one of FAULTS as its reason, and
    the worker is replaced; `attempts`: how often it is tried before that. An answer that took more
    than one attempt has the warning "retried".

    Raises what `load` raises (AvfakeError for a bundle that is damaged), and AvfakeError
    `no_worker` where workers die before their first file.
    """
    waiting = iter(jobs)
    crew = [_Desk(load, memory, attempts) for _ in range(workers)]
    try:
        while True:
            for desk in crew:
                if desk.job is None and (job := next(waiting, None)) is not None:
                    desk.begin(job)
            busy = [desk for desk in crew if desk.job is not None]
            if not busy:
                return
            wait([one for desk in busy for one in desk.worker.waitables()], WATCH_EVERY)
            for desk in busy:
                if desk.worker.done() and (answer := desk.answer()) is not None:
                    yield answer
    finally:
        for desk in crew:
            desk.worker.stop()


def faulted(path: Pathlike, fault: Fault, attempts: int = 1) -> Prediction:
    """The answer for a file that its worker was lost of, the last time of `attempts`."""
    times = {1: "", 2: ", twice"}.get(attempts, f", {attempts} times")
    text = f"{name_of(path)} {fault}{times}."
    return Prediction(os.fspath(path), "error", fault.reason, text)


def name_of(path: Pathlike) -> str:
    """What messages call a file: the last part of its path. Of an address without a user's name and
    what stands behind a question mark: either may be secret."""
    text = os.fspath(path)
    _, address, rest = text.partition("://")
    if address:
        text = rest.partition("?")[0].partition("/")[2] or "The address"
    return Path(text).name


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Desk:
    """A worker and the job that it is at."""

    def __init__(self, load: Callable[[], Judge], memory: int | None, attempts: int) -> None:
        self.worker: Worker[tuple[str, float | None], Prediction] = Worker(
            partial(_judging, load), memory
        )
        self.job: Job | None = None
        self._attempts = attempts
        self._attempt = 0

    def begin(self, job: Job) -> None:
        self.job, self._attempt = job, 1
        self._send(job)

    def answer(self) -> tuple[Job, Prediction] | None:
        """What came out, once the worker is done; None where the job is tried again."""
        job = self.job
        assert job is not None
        try:
            prediction = self.worker.result()
        except Fault as fault:
            if self._attempt < self._attempts:
                self._attempt += 1
                self._send(job)
                return None
            prediction = faulted(job.path, fault, self._attempt)
        else:
            if self._attempt > 1:
                prediction = replace(prediction, warnings=(*prediction.warnings, "retried"))
        self.job = None
        return job, prediction

    def _send(self, job: Job) -> None:
        self.worker.start((os.fspath(job.path), job.longest), job.timeout)


def _judging(
    load: Callable[[], Judge],
) -> Callable[[tuple[str, float | None]], Prediction]:
    judge = load()
    return lambda what: judge.predict(*what)
