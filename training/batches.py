"""Work on many clips: batch by batch, by workers that may be killed at any time.

A batch is a few dozen clips in a row. A supervisor gives them one by one to a process of its own
(`avfake.process`), stores the files that come back (`training.shards`) and then, in one step, the
batch's record: OUT/batches/00012.json. A batch counts when its record is there; what a kill left
half done has none, and is done again. So nothing is lost and nothing is there twice, and a run that
was killed ends with the same files as one that was not.

A clip that takes its process down twice is skipped with the reason: `timeout`, `out_of_memory`,
`too_much_output`, `worker_crashed` or `worker_exited`. A full disk, or files that were there and
are not any more, end the run: nothing is put down to a clip that is not its fault.

Supervisors are threads of the run (`locally`), or actors on a Ray cluster (`on_cluster`), which
must all see the clips and OUT under the same names; a batch whose actor or node is lost is done by
another.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol

import cv2

from avfake.process import WATCH_EVERY, Fault, Worker
from avfake.types import AvfakeError
from training.shards import Folder, Shards, part_of

BATCH = 40
"""Clips in a batch: so many may have to be done again after a kill, for each worker."""
MEMORY = 8 << 30  # bytes that a worker process may hold
ATTEMPTS = 2
TELL_EVERY = 10.0  # seconds between two lines of progress

log = logging.getLogger(__name__)


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
    """What is done.

    `setup` is called once in each worker process and returns the function that takes a clip: both
    must be importable by name. `store` takes the files; `records` is the folder of the batches'
    records. `timeout`: seconds that one clip may take.
    """

    setup: Callable[[], Callable[[Any], Outcome]]
    store: Folder | Shards
    records: Path
    timeout: float


@dataclass(frozen=True)
class Batch:
    number: int
    items: Sequence[Any]


Engine = Callable[[Job, Sequence[Batch], int], Iterator[int]]
"""(job, batches, workers) -> how many clips were done, whenever some were."""


def run(
    job: Job,
    items: Sequence[Item],
    workers: int,
    what: str,
    engine: Engine | None = None,
    batch: int = BATCH,
) -> None:
    """Do all items that no record has yet. Progress goes to standard output.

    `what`: how its lines begin; `engine`: `locally` unless told otherwise; `batch`: clips in one.
    Raises RuntimeError where workers cannot start, and OSError where files cannot be stored.
    """
    job.records.mkdir(parents=True, exist_ok=True)
    _discard_parts(job)
    kept = {number: set(record["clips"]) for number, record in numbered(job.records)}
    done = set().union(*kept.values())
    todo = [item for item in items if item.path not in done]
    free = (number for number in itertools.count() if number not in kept)
    batches = [
        Batch(next(free), todo[start : start + batch]) for start in range(0, len(todo), batch)
    ]
    progress = _Progress(what, len(items), len(items) - len(todo))
    try:
        if batches:
            for count in (engine or locally)(job, batches, workers):
                progress.count += count
                progress.tell()
    finally:
        _discard_parts(job)
    progress.tell(final=True)


def locally(job: Job, batches: Sequence[Batch], workers: int) -> Iterator[int]:
    """An engine: `workers` threads of this process, each with a supervisor and a core."""
    waiting = iter(batches)  # of a sequence: a step of it is one step for all threads
    stopping = threading.Event()
    news: queue.SimpleQueue[int] = queue.SimpleQueue()

    def work(number: int) -> None:
        supervisor = Supervisor(job, number, stopping.is_set, news.put)
        try:
            while (batch := next(waiting, None)) is not None and not stopping.is_set():
                supervisor(batch)
        finally:
            supervisor.close()

    with ThreadPoolExecutor(workers) as pool:
        try:
            threads = [pool.submit(work, number) for number in range(min(workers, len(batches)))]
            while not (all(thread.done() for thread in threads) and news.empty()):
                try:
                    yield news.get(timeout=0.2)
                except queue.Empty:
                    yield 0
                for thread in threads:
                    if thread.done():
                        thread.result()
            for thread in threads:
                thread.result()
        finally:
            stopping.set()


def on_cluster(
    job: Job, batches: Sequence[Batch], workers: int, address: str | None = None
) -> Iterator[int]:
    """An engine: `workers` actors on the Ray cluster at `address`, each with a supervisor.

    Raises AvfakeError `not_shared` where a node does not see the folder of the records.
    """
    from avfake.cluster import LOSSES, Lost, spread

    sign = job.records / f"{secrets.token_hex(8)}.part"
    sign.touch()
    setup = functools.partial(_supervise, job, sign)
    say = functools.partial(print, flush=True)
    here = Path(__file__).parents[1]
    for batch, done in spread(batches, setup, workers, address, say, home=here):
        if isinstance(done, Lost):
            raise RuntimeError(f"Batch {batch.number} lost its worker {LOSSES} times.")
        yield done


def _supervise(job: Job, sign: Path) -> Supervisor:
    if not sign.exists():
        text = f"{socket.gethostname()} does not see {sign.parent}: all nodes must share it."
        raise AvfakeError("not_shared", text)
    return Supervisor(job)


class Supervisor:
    """Does batches, one after the other.

    `core`: number of the core that its process keeps to, None for any; `stopped` is asked whether
    to give up; `tell` hears of each clip that is done.
    """

    def __init__(
        self,
        job: Job,
        core: int | None = None,
        stopped: Callable[[], bool] = lambda: False,
        tell: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._job = job
        self._worker: Worker[Any, Outcome] = Worker(
            functools.partial(_clips, job.setup, core), MEMORY
        )
        self._stopped = stopped
        self._tell = tell

    def __call__(self, batch: Batch) -> int:
        """Store a batch's files and its record; return how many clips it has.

        Raises OSError where they cannot be stored or a clip has vanished, RuntimeError where no
        process can be set up.
        """
        record = self._job.records / f"{batch.number:05d}.json"
        writer = self._job.store.open(batch.number)
        tables: dict[str, list[dict[str, Any]]] = {}
        for item in batch.items:
            outcome = self._outcome(item)
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
            self._tell(1)
        if not record.exists():  # as it does where this worker was taken for lost
            writer.close()
            clips = [item.path for item in batch.items]
            _write(record, json.dumps({"clips": clips, "rows": tables}))
        return len(batch.items)

    def close(self) -> None:
        self._worker.stop()

    def _outcome(self, item: Item) -> Outcome:
        reason = ""
        for _ in range(ATTEMPTS):
            try:
                return self._ask(item)
            except Fault as fault:
                log.warning("%s %s", item.path, fault)
                reason = fault.reason
            except OSError:
                raise
            except Exception as error:
                raise RuntimeError(f"No worker process can be set up: {error}") from error
        return Outcome(skipped=reason)

    def _ask(self, item: Item) -> Outcome:
        self._worker.start(item, self._job.timeout)
        while not self._worker.done():
            if self._stopped():
                raise InterruptedError("The run has ended.")
            wait(self._worker.waitables(), WATCH_EVERY)
        return self._worker.result()


def _clips(setup: Callable[[], Callable[[Any], Outcome]], core: int | None) -> Callable[..., Any]:
    """What a worker process runs; all that it raises ends the run."""
    cv2.setNumThreads(1)
    if core is not None and hasattr(os, "sched_setaffinity"):
        # FFmpeg starts a thread for each processor that it may use: here that is one.
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[core % len(allowed)]})
    return functools.partial(_clip, setup())


def _clip(handle: Callable[[Any], Outcome], item: Item) -> Outcome:
    try:
        return handle(item)
    except AvfakeError as error:
        if error.reason == "not_found":  # it was there when the run began
            raise FileNotFoundError(str(error)) from None
        return Outcome(skipped=error.reason)
    except Exception as error:
        # Of a hundred thousand clips one may well be odd in a new way; it is told, not fatal.
        log.warning("%s: %s: %s", item.path, type(error).__name__, error)
        return Outcome(skipped=f"failed:{type(error).__name__}")


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


def _write(path: Path, text: str) -> None:
    part = part_of(path)
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
