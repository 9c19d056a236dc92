"""Any number of files, each judged on its own: a row a file, whatever happens to it or to the run.

    with Files(["clips"]) as files, Scores("scores.jsonl", models, settings) as scores:
        outcome = run(files, scores, partial(judge_each, load=load, workers=2, attempts=2), ...)

The parent holds no answers: each becomes a row at once.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avfake.limits import DEFAULT_LIMITS, Limits
from avfake.scores import CLAIMED, Answer, Row, Scores
from avfake.sources import Files, Video
from avfake.types import AvfakeError, Prediction
from avfake.workers import FAULTS, Job

Engine = Callable[[Iterable[Job]], Generator[tuple[Job, Prediction], None, None]]
"""What answers jobs in any order, each with the very object that it was given, and asks for the
next when it has room for it: `judge_each`, given all but its jobs."""
QUARANTINED = (*FAULTS, "worker_lost")
"""Reasons of files that took a worker down, or stalled it, on every attempt."""
NAMED = 20
"""Quarantined files that an outcome names."""
_RECENT = 500  # answers over which the rate is taken


@dataclass(frozen=True)
class Progress:
    """How far a run is: counts of files, files a second of late and seconds to go (None before
    there is a rate)."""

    done: int
    total: int
    unscored: int
    rate: float | None
    left: float | None


@dataclass
class Outcome:
    """What a run came to: `answers`, of all its files; `kept`, how many of them had a row before;
    `renewed`, how many of the others had one that was dropped; the first `quarantined` of this
    run; `seconds` that it took."""

    answers: Counter[Answer] = field(default_factory=Counter)
    kept: int = 0
    renewed: int = 0
    quarantined: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return self.answers.total()

    @property
    def judged(self) -> int:
        return self.total - self.kept

    @property
    def in_quarantine(self) -> int:
        return sum(count for (_, reason), count in self.answers.items() if reason in QUARANTINED)

    def count(self, status: str) -> int:
        """Files that ended with "ok", "abstain" or "error"."""
        return sum(count for (other, _), count in self.answers.items() if other == status)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what `avfake batch --json` prints."""
        reasons = {reason: n for (_, reason), n in self.answers.most_common() if reason is not None}
        return {
            "files": self.total,
            **{status: self.count(status) for status in ("ok", "abstain", "error")},
            "reasons": reasons,
            "quarantined": self.in_quarantine,
            "judged": self.judged,
            "seconds": round(self.seconds, 3),
        }


def run(
    files: Files,
    scores: Scores,
    engine: Engine,
    bundle: Mapping[str, str],
    timeout: float = 60.0,
    limits: Limits = DEFAULT_LIMITS,
    brief: bool = False,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Judge the files that `scores` has no row of, or a stale one, and add a row for each.

    `bundle`: name, version and sha256 of the models; `timeout`: seconds a file; `limits`: of what
    is unpacked; `brief`: leave boxes and windows out of the rows; `tell` hears of progress when it
    begins, after each row and in the end.

    Raises AvfakeError `not_writable`, and what `engine` raises.
    """
    started = time.monotonic()
    batch = _Run(files, scores, bundle, timeout, limits, brief, tell)
    with closing(engine(batch.jobs())) as answers:
        for job, prediction in answers:
            batch.settle(job, prediction)
    batch.outcome.seconds = time.monotonic() - started
    batch.tell_end()
    return batch.outcome


class _Run:
    """A batch on its way."""

    def __init__(
        self,
        files: Files,
        scores: Scores,
        bundle: Mapping[str, str],
        timeout: float,
        limits: Limits,
        brief: bool,
        tell: Callable[[Progress], None],
    ) -> None:
        self._files = files
        self._scores = scores
        self._bundle = dict(bundle)
        self._timeout = timeout
        self._limits = limits
        self._brief = brief
        self._tell = tell
        self._times: deque[float] = deque(maxlen=_RECENT)
        self._under_way: dict[Job, tuple[Video, int | None]] = {}
        self.outcome = Outcome()
        self.outcome.renewed = scores.drop_stale((f.shown, _member(f)) for f in self._listed())
        self._total = sum(1 for _ in self._listed())
        self._told = self._progress()
        tell(self._told)

    def jobs(self) -> Iterator[Job]:
        """What has to be judged, found when it is asked for."""
        for file in self._listed():
            answer = self._scores.claim(file.shown, _member(file))
            if answer == CLAIMED:
                self._total -= 1
                continue
            if answer is not None:
                self.outcome.answers[answer] += 1
                self.outcome.kept += 1
                continue
            size = file.size
            try:
                if file.fault is not None:
                    raise file.fault
                place = self._files.fetch(file, self._limits.bytes)
            except AvfakeError as error:
                if error.reason == "not_writable":
                    raise
                self._keep(file, size, Prediction(file.shown, "error", error.reason, str(error)))
                continue
            job = Job(place, timeout=self._timeout)
            self._under_way[job] = file, size
            yield job

    def settle(self, job: Job, prediction: Prediction) -> None:
        """Keep an answer, under the name that people know: a zip's member was judged as another."""
        file, size = self._under_way.pop(job)
        self._files.release(os.fspath(job.path))
        message = prediction.message
        if message is not None and file.member is not None:
            message = message.replace(Path(job.path).name, file.basename)
        self._keep(file, size, replace(prediction, path=file.shown, message=message))

    def tell_end(self) -> None:
        """Tell that all is done, where the last row did not: after it came what has one already."""
        if self._told.done < self._told.total:
            self._tell(self._progress())

    def _listed(self) -> Iterator[Video]:
        return (file for file in self._files if not self._scores.holds(file.path))

    def _keep(self, file: Video, size: int | None, prediction: Prediction) -> None:
        quarantined = prediction.reason in QUARANTINED
        row = prediction.to_dict() | {"bundle": self._bundle}
        if self._brief:
            _shorten(row)
        row |= {"size": size, "quarantined": quarantined}
        self._scores.add(file.shown, _member(file), row)
        self.outcome.answers[prediction.status, prediction.reason] += 1
        if quarantined and len(self.outcome.quarantined) < NAMED:
            self.outcome.quarantined.append((file.shown, str(prediction.reason)))
        self._times.append(time.monotonic())
        self._told = self._progress()
        self._tell(self._told)

    def _progress(self) -> Progress:
        done = self.outcome.total
        rate = None
        if len(self._times) > 1 and self._times[-1] > self._times[0]:
            rate = (len(self._times) - 1) / (self._times[-1] - self._times[0])
        total = max(self._total, done)  # there may be more than when they were counted
        left = None if rate is None else (total - done) / rate
        return Progress(done, total, done - self.outcome.count("ok"), rate, left)


def _member(file: Video) -> str | None:
    return None if file.member is None else file.name


def _shorten(row: Row) -> None:
    for branch in row["branches"].values():
        del branch["windows"]
    for track in row["tracks"]:
        del track["boxes"]
