"""A test folder becomes a Kaggle submission that is complete and valid from the first second on.

Every row holds the prior until its video is scored; the file is replaced as a whole each time. What
happened to each video stands in a log beside it (`submission.log.jsonl`), from which a run that was
stopped goes on.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avfake.limits import DEFAULT_LIMITS, Limits
from avfake.lines import writing
from avfake.pace import Pace
from avfake.runlog import Log
from avfake.sources import Sources, Video
from avfake.types import AvfakeError, Prediction
from avfake.workers import Job, Judge, judge_each

KAGGLE_BUDGET = 9 * 3600 / 4000
"""Seconds a video that DFDC's competition allowed: nine hours for 4,000 videos."""
LATER = ("deadline", "not_found", "ambiguous", "not_writable")
"""Reasons for having no score that another run may overcome."""
_ATTEMPTS = 5  # runs that may be killed while they look at a video; it need not be its fault
_WRITE_EVERY = 1.0  # seconds
_RESERVE = 10.0  # seconds before the deadline for stopping workers and writing, or a tenth of it


@dataclass(frozen=True)
class Sample:
    """What a submission must list: its two column titles, and its names in order."""

    names: tuple[str, ...]
    header: tuple[str, str] = ("filename", "label")


@dataclass(frozen=True)
class Settings:
    """`deadline`: seconds from the start, None for none; `clip`: bounds of what is written;
    `prior`: what is written for a video without a score; `timeout`: seconds a video; `limits`: of
    a worker's memory and of what is unpacked."""

    deadline: float | None = None
    clip: tuple[float, float] = (0.01, 0.99)
    prior: float = 0.5
    workers: int = 1
    timeout: float = 120.0
    limits: Limits = DEFAULT_LIMITS


@dataclass(frozen=True)
class Progress:
    """How far a run is: counts of videos, seconds a video and to go (None before the first), and
    seconds of the next video that there is time for (None for all)."""

    done: int
    total: int
    failed: int
    seconds: float | None
    left: float | None
    longest: float | None


@dataclass(frozen=True)
class Outcome:
    """What a run came to. `failures`: name -> reason, of all rows that hold the prior; `losses`:
    log-loss as submitted and unclipped over `labelled` videos, None without labels; `seconds`: wall
    time of this run; `judged`: videos that it looked at."""

    total: int
    failures: Mapping[str, str]
    not_in_sample: Sequence[str]
    labelled: int
    losses: tuple[float, float] | None
    seconds: float
    judged: int

    @property
    def counts(self) -> dict[str, int]:
        """Reason -> how many rows hold the prior for it, most first."""
        return dict(Counter(self.failures.values()).most_common())

    @property
    def failed_share(self) -> float:
        return len(self.failures) / self.total

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what `avfake submit --json` prints."""
        clipped, exact = self.losses or (None, None)
        return {
            "videos": self.total,
            "failures": dict(self.failures),
            "not_in_sample": list(self.not_in_sample),
            "labelled": self.labelled,
            "log_loss": clipped,
            "log_loss_unclipped": exact,
            "seconds": round(self.seconds, 3),
            "judged": self.judged,
        }


def read_sample(path: str | os.PathLike[str]) -> Sample:
    """A `sample_submission.csv`: a column `filename` and one more.

    Raises AvfakeError `bad_sample` where that is not what it holds.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (OSError, csv.Error) as error:
        raise AvfakeError("bad_sample", f"{path} cannot be read: {error}.") from None
    if len(header) != 2 or header[0] != "filename":
        raise AvfakeError("bad_sample", f"{path} has columns {header}, not filename and label.")
    rows = [row for row in rows if row]
    if not rows:
        raise AvfakeError("bad_sample", f"{path} lists no videos.")
    return Sample(tuple(row[0] for row in rows), (header[0], header[1]))


def submit(
    sources: Sources,
    sample: Sample,
    out: str | os.PathLike[str],
    models: str,
    load: Callable[[], Judge],
    settings: Settings,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Score what `sample` lists and write it to `out`, all the time.

    `models`: what tells one set of models from another (a bundle's sha256); `load`: see
    `judge_each`. `tell` hears of progress after each video. Raises AvfakeError `other_run` where
    the log beside `out` is of other models or videos, `not_writable`.
    """
    started = time.monotonic()
    out = Path(out)
    if out.is_dir():
        raise AvfakeError("not_writable", f"{out} is a folder: name the file to write.")
    if out.exists() and any(_is_at(file.path, out) for file in sources.files):
        raise AvfakeError("usage", f"{out} is what is to be judged: name another file to write.")
    run = _Run(sources, sample, out, settings)
    log_path = log_of(out)
    if not log_path.exists():
        run.write()
    with Log(log_path, models, run.sizes) as log:
        run.go_on(log)
        run.write()
        until = None
        if settings.deadline is not None:
            reserve = min(_RESERVE, 0.1 * settings.deadline)
            until = started + settings.deadline - reserve
        run.judge(load, Pace(until, settings.workers, settings.timeout), tell)
        run.write()
    return run.outcome(time.monotonic() - started)


def _is_at(path: str, out: Path) -> bool:
    return os.path.basename(path) == out.name and os.path.exists(path) and out.samefile(path)


def log_of(out: str | os.PathLike[str]) -> Path:
    """Where the log of a submission lies: submission.csv -> submission.log.jsonl."""
    return Path(out).with_name(f"{Path(out).stem}.log.jsonl")


class _Run:
    """One submission on its way."""

    def __init__(self, sources: Sources, sample: Sample, out: Path, settings: Settings) -> None:
        self._sources = sources
        self._sample = sample
        self._out = out
        self._settings = settings
        self._answers: dict[str, dict[str, Any]] = {}
        self._videos: dict[str, Video] = {}
        self._missing: dict[str, AvfakeError] = {}
        self._judged = 0
        self._written = -math.inf
        for name in dict.fromkeys(sample.names):
            try:
                self._videos[name] = sources.find(name)
            except AvfakeError as error:
                self._missing[name] = error
        listed = {(video.path, video.name) for video in self._videos.values()}
        self._others = sorted(
            file.name
            for file in sources.files
            if file.is_video and (file.path, file.name) not in listed
        )
        self.sizes: dict[str, int | None] = {
            name: self._videos[name].size if name in self._videos else None
            for name in dict.fromkeys(sample.names)
        }

    def go_on(self, log: Log) -> None:
        """Take over what the log holds; tell it what is wrong from the outset."""
        self._log = log
        self._answers = {
            name: answer
            for name, answer in log.answers.items()
            if answer.get("reason") not in LATER
        }
        for name, error in self._missing.items():
            before = log.answers.get(name)
            if before is None:
                self._settle(name, "error", error.reason, str(error))
            else:  # also where it was scored while it was still there
                self._answers[name] = before
        for name in self._others:
            if name not in log.ignored:
                log.write(name=name, status="ignored", reason="not_in_sample")
        for name, begun in log.begun.items():
            if begun >= _ATTEMPTS and name not in self._answers:
                text = f"The run was killed {begun} times while it looked at {name}."
                self._settle(name, "error", "interrupted", text)

    def judge(
        self, load: Callable[[], Judge], pace: Pace, tell: Callable[[Progress], None]
    ) -> None:
        """Score what is left, until all is done or time is up."""
        # What was under way when a run was killed comes last: it may well kill this one, too.
        rest = [name for name in self._videos if name not in self._answers]
        waiting = deque(sorted(rest, key=lambda name: self._log.begun[name]))
        again: dict[str, float] = {}  # name -> seconds to look at, after a time-out
        under_way: dict[Job, tuple[str, float]] = {}

        def jobs() -> Iterator[Job]:
            while waiting and not pace.is_over():
                name = waiting.popleft()
                video = self._videos[name]
                longest = pace.longest(len(waiting) + 1)
                if name in again:
                    longest = min(again[name], longest or math.inf)
                else:
                    self._log.write(name=name, status="begun", size=video.size)
                try:
                    path = self._sources.fetch(video, self._settings.limits.bytes)
                except AvfakeError as error:
                    self._settle(name, "error", error.reason, str(error))
                    continue
                job = Job(path, longest, pace.timeout())
                under_way[job] = name, time.monotonic()
                yield job

        if len(waiting) < len(self.sizes):
            tell(self._progress(pace, len(waiting)))
        # Again, where the last of all took too long and gets its second, shorter look.
        while waiting and not pace.is_over():
            crew = self._settings.workers
            with closing(judge_each(jobs(), load, crew, self._settings.limits.memory)) as answers:
                for job, prediction in answers:
                    name, since = under_way.pop(job)
                    self._sources.release(os.fspath(job.path))
                    duration = prediction.media.duration if prediction.media is not None else None
                    spent = time.monotonic() - since
                    if self._judged < self._settings.workers:  # it loaded the models as well
                        spent = prediction.seconds.get("total", spent)
                    pace.learn(spent, job.longest, duration)
                    if prediction.reason == "timeout" and job.timeout < self._settings.timeout:
                        waiting.appendleft(name)  # the deadline stopped it
                    elif prediction.reason == "timeout" and name not in again:
                        again[name] = pace.shortened()
                        waiting.append(name)
                    else:
                        self._judged += 1
                        self._keep(name, job, prediction)
                    left = len(waiting) + len(under_way)
                    tell(self._progress(pace, left))
                    if time.monotonic() - self._written > _WRITE_EVERY:
                        self.write()
        for name in waiting:
            self._settle(name, "error", "deadline", f"There was no time left for {name}.")

    def _keep(self, name: str, job: Job, prediction: Prediction) -> None:
        message = prediction.message
        if message is not None:  # a file from a zip is known by a name that says nothing
            message = message.replace(Path(job.path).name, self._videos[name].basename)
        self._settle(
            name,
            prediction.status,
            prediction.reason,
            message,
            logit=prediction.logit,
            longest=job.longest,
            warnings=list(prediction.warnings),
            seconds=round(prediction.seconds.get("total", 0.0), 3),
        )

    def _settle(
        self, name: str, status: str, reason: str | None, message: str | None, **more: Any
    ) -> None:
        size = self.sizes[name]
        answer = {"status": status, "reason": reason, "message": message, "size": size, **more}
        self._answers[name] = answer
        self._log.write(name=name, **answer)

    def _progress(self, pace: Pace, left: int) -> Progress:
        total = len(self.sizes)
        seconds = pace.seconds
        return Progress(
            done=total - left,
            total=total,
            failed=sum(answer["status"] != "ok" for answer in self._answers.values()),
            seconds=seconds,
            left=None if seconds is None else seconds * left,
            longest=pace.longest(left) if left else None,
        )

    def write(self) -> None:
        """Put the whole submission in the place of the one that is there."""
        with writing(self._out):
            part = self._out.with_name(f".{self._out.name}.part")
            with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(self._sample.header)
                writer.writerows((name, repr(self._value(name))) for name in self._sample.names)
            os.replace(part, self._out)
        self._written = time.monotonic()

    def _value(self, name: str) -> float:
        """What stands in the submission: in [0, 1] and finite, whatever happened."""
        exact = self._exact(name)
        low, high = self._settings.clip
        return self._settings.prior if exact is None else round(min(max(exact, low), high), 6)

    def _exact(self, name: str) -> float | None:
        logit = self._answers.get(name, {}).get("logit")
        return None if logit is None else 1 / (1 + math.exp(-min(max(logit, -700.0), 700.0)))

    def outcome(self, seconds: float) -> Outcome:
        labels = self._sources.labels()
        truth = {
            name: labels[video.name] for name, video in self._videos.items() if video.name in labels
        }
        losses = None
        if truth:
            written = [(label, self._value(name)) for name, label in truth.items()]
            exact = [(label, self._exact(name)) for name, label in truth.items()]
            prior = self._settings.prior
            losses = _loss(written), _loss([(t, prior if p is None else p) for t, p in exact])
        failures = {
            name: answer["reason"] or answer["status"]
            for name, answer in self._answers.items()
            if answer["status"] != "ok"
        }
        total = len(self.sizes)
        return Outcome(total, failures, self._others, len(truth), losses, seconds, self._judged)


def _loss(pairs: Sequence[tuple[int, float]]) -> float:
    """Mean log-loss, in nats, of (label, probability)."""
    chances = [p if label else 1 - p for label, p in pairs]
    return -sum(math.log(max(chance, 1e-15)) for chance in chances) / len(chances)
