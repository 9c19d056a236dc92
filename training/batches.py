"""Work on many clips: worker processes, batch by batch, that may be killed at any time.

A batch is a few dozen clips in a row. A worker does all of it, stores its files (`training.shards`)
and then, in one step, its record: OUT/batches/00012.json. A batch counts when its record is there;
what a kill left half done has none, and the next run does that batch again. So nothing is lost and
nothing is there twice, and a run that was killed ends with the same files as one that was not.

A clip that takes too long, or that a worker dies of twice (a fault in a decoder), is skipped with
the reason `timeout` or `crashed`: another worker does the batch again without it. A full disk, or
files that were there and are not any more, end the run: nothing is put down to a clip that is not
its fault.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import cv2

from avfake.types import AvfakeError
from training.shards import Folder, Shards

BATCH = 40
"""Clips in a batch: so many may have to be done again after a kill, for each worker."""
STARTING = 300.0  # seconds that a worker may take until its first clip
TELL_EVERY = 10.0  # seconds between two lines of progress


class Item(Protocol):
    @property
    def path(self) -> str: ...


@dataclass(frozen=True)
class Outcome:
    """What became of one clip.

    `rows`: table name -> rows, ready for JSON; a row whose "path" names one of `files` (name ->
    bytes) gets the path by which that file is read. `skipped`: why nothing came of it, or empty.
    """

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    skipped: str = ""


@dataclass(frozen=True)
class Job:
    """What the workers do.

    `setup` is called once in each worker and returns the function that takes a clip: both must be
    importable by name. `store` takes the files; `records` is the folder of the batches' records.
    """

    setup: Callable[[], Callable[[Any], Outcome]]
    store: Folder | Shards
    records: Path


@dataclass(frozen=True)
class _Batch:
    number: int
    items: Sequence[Any]
    refused: dict[str, str] = field(default_factory=dict)  # path -> crashed or timeout
    suspects: frozenset[str] = frozenset()  # paths that a worker died of once


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    batch: _Batch | None = None
    at: int | None = None  # the clip of the batch that it is at
    since: float = 0.0
    gone: bool = False


def run(
    job: Job,
    items: Sequence[Item],
    workers: int,
    timeout: float,
    what: str,
    batch: int = BATCH,
) -> None:
    """Do all items that no record has yet. Progress goes to standard output.

    `timeout`: seconds that one clip may take; `what`: how its lines begin; `batch`: clips in one.
    Raises RuntimeError where workers cannot start, and OSError where files cannot be stored.
    """
    job.records.mkdir(parents=True, exist_ok=True)
    _discard_parts(job)
    kept = {number: set(record["clips"]) for number, record in numbered(job.records)}
    done = set().union(*kept.values())
    todo = [item for item in items if item.path not in done]
    free = (number for number in itertools.count() if number not in kept)
    queue = deque(
        _Batch(next(free), todo[start : start + batch]) for start in range(0, len(todo), batch)
    )
    progress = _Progress(what, len(items), len(items) - len(todo))
    crew: list[_Worker] = []
    try:
        while queue or any(worker.batch for worker in crew):
            crew += [_hire(job, number) for number in range(len(crew), min(workers, len(queue)))]
            for worker in crew:
                if worker.batch is None and queue:
                    worker.batch, worker.at, worker.since = queue.popleft(), None, time.monotonic()
                    with contextlib.suppress(OSError):  # it has just died: seen below
                        worker.pipe.send(worker.batch)
            _listen(crew, progress)
            for index, worker in enumerate(crew):
                reason = _fate(worker, timeout)
                if reason:
                    worker.process.kill()
                    worker.process.join()
                    if worker.batch is not None:
                        queue.appendleft(_without(worker.batch, worker.at, reason))
                        progress.count -= worker.at or 0
                    crew[index] = _hire(job, index)
            progress.tell()
    finally:
        for worker in crew:
            worker.process.kill()
            worker.process.join()
        _discard_parts(job)
    progress.tell(final=True)


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of all finished batches, in order: {"clips": paths, "rows": {table: rows}}."""
    for _, record in numbered(folder):
        yield record


def numbered(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, record) of all finished batches, in order."""
    for file in sorted(folder.glob("*.json"), key=lambda file: int(file.stem)):
        yield int(file.stem), json.loads(file.read_text())


def _discard_parts(job: Job) -> None:
    for folder in (job.records, job.store.root / "shards"):
        for part in folder.glob("*.part"):
            part.unlink(missing_ok=True)


def _hire(job: Job, number: int) -> _Worker:
    # Spawned, not forked: OpenCV and FFmpeg have threads of their own.
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_work, args=(job, theirs, number, os.getpid()), daemon=True)
    process.start()
    theirs.close()  # so that the pipe ends when the worker does
    return _Worker(process, mine)


def _listen(crew: Sequence[_Worker], progress: _Progress) -> None:
    """Take the workers' news, for a second at most."""
    pipes = {worker.pipe: worker for worker in crew}
    for pipe in wait(list(pipes), timeout=1.0):
        worker = pipes[pipe]  # type: ignore[index]
        try:
            while worker.pipe.poll():
                at = worker.pipe.recv()
                if isinstance(at, str):
                    raise OSError(at)
                progress.count += worker.at is not None
                worker.at, worker.since = at, time.monotonic()
                if at is None:
                    worker.batch = None
        except (EOFError, ConnectionResetError):
            worker.gone = True


def _fate(worker: _Worker, timeout: float) -> str:
    """Why a worker will not finish what it is at, or nothing."""
    if worker.gone:
        return "crashed"
    limit = timeout if worker.at is not None else STARTING
    late = worker.batch is not None and time.monotonic() - worker.since > limit
    return "timeout" if late else ""


def _without(batch: _Batch, at: int | None, reason: str) -> _Batch:
    """The batch, to be done again; the clip that the worker was at gets one more chance at most."""
    if at is None:
        raise RuntimeError(
            "A worker stopped before its first clip; what it said stands above, if anything."
        )
    path = batch.items[at].path
    if reason == "crashed" and path not in batch.suspects:
        return replace(batch, suspects=batch.suspects | {path})  # it may have been out of memory
    return replace(batch, refused=batch.refused | {path: reason})


def _work(job: Job, pipe: Connection, number: int, parent: int) -> None:
    """A worker's life: batches in; out comes the number of the clip it is at, None after a batch,
    or what keeps it from storing anything.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        # FFmpeg starts a thread for each processor that it may use: here that is one.
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[number % len(allowed)]})
    handle = job.setup()
    with contextlib.suppress(EOFError, BrokenPipeError):  # the run has ended, or was killed
        while True:
            batch = pipe.recv()
            try:
                _do(job, handle, batch, pipe, parent)
            except BrokenPipeError:
                raise
            except OSError as error:
                pipe.send(str(error))


def _do(
    job: Job, handle: Callable[[Any], Outcome], batch: _Batch, pipe: Connection, parent: int
) -> None:
    writer = job.store.open(batch.number)
    tables: dict[str, list[dict[str, Any]]] = {}
    for index, item in enumerate(batch.items):
        if os.getppid() != parent:
            raise EOFError  # nobody waits for this
        pipe.send(index)
        outcome = _outcome(handle, item, batch.refused.get(item.path))
        paths = {name: writer.add(name, data) for name, data in outcome.files.items()}
        for table, rows in outcome.rows.items():
            tables.setdefault(table, []).extend(
                row | {"path": paths[row["path"]], "member": row["path"]}
                if row["path"] in paths
                else row
                for row in rows
            )
        if outcome.skipped:
            row = {"path": item.path, "why": outcome.skipped}
            tables.setdefault("skipped", []).append(row)
    writer.close()
    record = {"clips": [item.path for item in batch.items], "rows": tables}
    _write(job.records / f"{batch.number:05d}.json", json.dumps(record))
    pipe.send(None)


def _outcome(handle: Callable[[Any], Outcome], item: Item, refused: str | None) -> Outcome:
    if refused:
        return Outcome(skipped=refused)
    try:
        return handle(item)
    except AvfakeError as error:
        if error.reason == "not_found":  # it was there when the run began
            raise FileNotFoundError(str(error)) from None
        return Outcome(skipped=error.reason)
    except Exception as error:
        # Of a hundred thousand clips one may well be odd in a new way; it is told, not fatal.
        print(f"{item.path}: {type(error).__name__}: {error}", flush=True)
        return Outcome(skipped=f"failed:{type(error).__name__}")


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


class _Progress:
    """Lines such as: faces: 1200 of 119154 clips, 4.2 a second, 7 h 48 min left."""

    def __init__(self, what: str, total: int, before: int) -> None:
        self.what, self.total, self.before = what, total, before
        self.count = 0  # clips done in this run
        self._start = self._told = time.monotonic()

    def tell(self, final: bool = False) -> None:
        now = time.monotonic()
        if not final and now - self._told < TELL_EVERY:
            return
        self._told = now
        rate = self.count / max(now - self._start, 1e-3)
        done = self.before + self.count
        line = f"{self.what}: {done} of {self.total} clips"
        if self.count:
            line += f", {rate:.2g} a second" if rate < 10 else f", {rate:.0f} a second"
            if done < self.total:
                line += f", {duration((self.total - done) / rate)} left"
        print(line, flush=True)


def duration(seconds: float) -> str:
    """7 h 48 min, 12 min or 40 s."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if seconds >= 60 else f"{round(seconds)} s"
