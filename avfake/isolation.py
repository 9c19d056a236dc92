"""A detector in a worker process of its own, for commands that judge one file after the other.

    with IsolatedDetector(Models(), timeout=3600.0) as detector:
        prediction = detector.predict("clip.mp4")

What a file does to its process (crash it, take time or memory without end) ends as an answer, and
the next file has a new process. For many files at once see `avfake.workers`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from avfake.limits import DEFAULT_LIMITS
from avfake.process import Fault, Worker
from avfake.types import AvfakeError, Prediction, Tell
from avfake.workers import faulted

if TYPE_CHECKING:
    from avfake.detector import Detector

T = TypeVar("T")


class IsolatedDetector:
    """Answers as a `Detector` does.

    `load` (`Models`) is called in the process and must be picklable; `timeout`: seconds that it has
    for each thing it is asked; `memory`: bytes that the process may hold; `hear` is called with how
    far it is with a file.
    """

    def __init__(
        self,
        load: Callable[[], Detector],
        timeout: float,
        memory: int = DEFAULT_LIMITS.memory,
        hear: Tell = lambda progress: None,
    ) -> None:
        self._worker: Worker[Any, Any] = Worker(partial(_working, load), memory, hear)
        self._timeout = timeout

    def __enter__(self) -> IsolatedDetector:
        return self

    def __exit__(self, *fault: object) -> None:
        self._worker.stop()

    def predict(self, path: str | os.PathLike[str]) -> Prediction:
        """As `Detector.predict`; one of `workers.FAULTS` is an error with that reason.

        Raises AvfakeError for models that cannot be loaded, `no_worker` where processes die before
        they take a file on.
        """
        try:
            prediction: Prediction = self._worker.call(partial(_judge, path), self._timeout)
        except Fault as fault:
            return replace(faulted(path, fault), bundle=self.ask(_bundle, path))
        return prediction

    def ask(self, task: Callable[[Detector], T], about: str | os.PathLike[str]) -> T:
        """`task` of the detector, where that is: a picklable function with a picklable answer.

        Raises what it raises, and AvfakeError with one of `workers.FAULTS` for what the file
        `about` which it is asked did to it.
        """
        try:
            answer: T = self._worker.call(partial(_do, task), self._timeout)
        except Fault as fault:
            raise AvfakeError(fault.reason, f"{Path(about).name} {fault}.") from None
        return answer


def reachable(path: str) -> str:
    """The path by which another process finds the same file: what is called /dev/fd/63 or
    /proc/self/fd/63 is each process's own."""
    folder, name = os.path.split(path)
    folder = os.path.realpath(folder)
    return os.path.join(folder, name) if folder.startswith(f"/proc/{os.getpid()}/") else path


def _working(load: Callable[[], Detector], tell: Tell) -> Callable[[Any], Any]:
    detector = load()
    return lambda task: task(detector, tell)


def _bundle(detector: Detector) -> dict[str, str]:
    return detector.bundle.to_dict()


def _judge(path: str | os.PathLike[str], detector: Detector, tell: Tell) -> Prediction:
    return detector.predict(path, tell=tell)


def _do(task: Callable[[Detector], T], detector: Detector, tell: Tell) -> T:
    return task(detector)
