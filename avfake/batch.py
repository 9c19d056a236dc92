"""Many files, each judged in a worker process: one that kills or stalls it costs no other.

    for job, prediction in judge_each(map(Job, paths), Models(threads=1), workers=2):
        print(prediction)

Workers are started afresh, not forked (FFmpeg, OpenCV and onnxruntime hold threads and locks), so a
script that calls this needs the usual `if __name__ == "__main__":`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from pebble import ProcessExpired, ProcessPool

from avfake.types import Prediction

Pathlike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Job:
    """One file to judge; each is itself alone, also where two name the same file.

    `longest`: seconds of the clip to look at, None for all (see `Detector.predict`); `timeout`:
    seconds that its worker has for it, before it is stopped. A worker's first file waits for the
    models, too.
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

    def __call__(self) -> Judge:
        from avfake.detector import Detector

        return Detector.from_pretrained(self.bundle, self.face_model, self.threads)


def judge_each(
    jobs: Iterable[Job], load: Callable[[], Judge], workers: int
) -> Generator[tuple[Job, Prediction], None, None]:
    """Judge many files in `workers` processes; yield each answer as it comes.

    `jobs` is asked for the next one only when a worker is free for it, so it may decide late.
    `load` (`Models`) is called once in each worker: it must be picklable, and equal to its copies.
    A file on which the worker dies or takes too long gives a Prediction with
    status "error" and reason "worker_crashed" or "timeout", and the worker is replaced. What
    `load` raises (AvfakeError for a bundle that is damaged) is raised here.
    """
    waiting = iter(jobs)
    everyone = [_Worker(load) for _ in range(workers)]
    free = list(everyone)
    busy: dict[Future[Prediction], tuple[_Worker, Job]] = {}
    try:
        while True:
            while free and (job := next(waiting, None)) is not None:
                worker = free.pop()
                busy[worker.start(job)] = worker, job
            if not busy:
                return
            done, _ = wait(busy, return_when=FIRST_COMPLETED)
            for future in done:
                worker, job = busy.pop(future)
                prediction = worker.answer(job, future)
                free.append(worker)
                yield job, prediction
    finally:
        for worker in everyone:
            worker.stop()


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker:
    """One process at a time, and a new one after each fault.

    A pebble pool of one: the workers of a larger pool share a pipe and its lock, and one that dies
    at the wrong moment takes them along.
    """

    def __init__(self, load: Callable[[], Judge]) -> None:
        self._load = load
        self._pool = _new_pool()

    def start(self, job: Job) -> Future[Prediction]:
        what = (self._load, os.fspath(job.path), job.longest)
        try:
            return self._pool.schedule(_judge, what, timeout=job.timeout)
        except RuntimeError:  # the process died after the last file, and the pool with it
            self._renew()
            return self._pool.schedule(_judge, what, timeout=job.timeout)

    def answer(self, job: Job, future: Future[Prediction]) -> Prediction:
        """What came out, once it is done."""
        try:
            return future.result()
        except TimeoutError:
            self._renew()
            return _error(job, "timeout", f"took more than {job.timeout:.0f} s")
        except ProcessExpired as death:
            self._renew()
            return _error(job, "worker_crashed", f"killed its worker ({_cause(death.exitcode)})")
        except BrokenProcessPool:
            # The process died before it took the file on: it deserves a living one.
            self._renew()
            return self._second(job)

    def _second(self, job: Job) -> Prediction:
        future = self.start(job)
        try:
            return future.result()
        except (TimeoutError, ProcessExpired, BrokenProcessPool) as fault:
            self._renew()
            text = f"could not be judged: no worker lives ({type(fault).__name__})"
            return _error(job, "worker_crashed", text)

    def stop(self) -> None:
        self._pool.stop()
        self._pool.join()

    def _renew(self) -> None:
        self.stop()
        self._pool = _new_pool()


def _new_pool() -> ProcessPool:
    return ProcessPool(
        max_workers=1,
        initializer=_prepare,
        initargs=(logging.getLogger().getEffectiveLevel(),),
        context=multiprocessing.get_context("spawn"),
    )


def _prepare(level: int) -> None:
    """In the worker, at its start: log as the parent does, and do not outlive it."""
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _judge(load: Callable[[], Judge], path: str, longest: float | None) -> Prediction:
    return _loaded(load).predict(path, longest)


@cache
def _loaded(load: Callable[[], Judge]) -> Judge:
    return load()


def _error(job: Job, reason: str, what: str) -> Prediction:
    path = Path(job.path)
    return Prediction(str(path), "error", reason, f"{path.name} {what}.")


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"
