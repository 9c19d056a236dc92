"""The same work on a Ray cluster: as `avfake.workers`, but a lost machine costs no file either.

    for job, prediction in judge_on_cluster(map(Job, paths), Models(threads=1), workers=64):
        print(prediction)

Each worker is an actor (one CPU) that holds one supervised process (`avfake.process`), so a file
that kills a decoder costs its actor nothing and has the same reasons as on one machine. An actor
that is lost, or its node, gives its item back to the queue and is replaced as soon as the cluster
has room. The program that asks is the only one that gets answers, one for each item: it alone
writes rows.

Without an address a Ray of this machine's own is started, and ended afterwards. With one, the
program must run on a node of that cluster; avfake must be there in the same version on all nodes,
and files and folders of models must lie where all of them see them.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import socket
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from avfake import __version__
from avfake.limits import DEFAULT_LIMITS
from avfake.scratch import locked
from avfake.types import AvfakeError, Prediction
from avfake.workers import Job, Judge, judge_each, name_of

LOSSES = 3
"""How many actors may be lost over one item, or in a row before one is ready."""
TELL_EVERY = 30.0  # seconds between two lines about workers that the cluster has no room for
_STARTING = 300.0  # seconds that a worker process may take to load its models
_GRACE = 60.0  # seconds beyond all time-outs after which an actor is taken for lost
_CONNECT = 10.0  # seconds until nobody answers at an address
_LOOK_EVERY = 5.0  # seconds between two looks at whether the cluster is still there
_HEADLESS = 30.0  # seconds that its head may be away; after 60, Ray would end this process itself
_OBJECTS = 100 << 20  # bytes for answers on their way; Ray's own choice is a third of the memory

Item = TypeVar("Item")
Answer = TypeVar("Answer")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lost:
    """The answer for an item over which LOSSES actors were lost."""


def judge_on_cluster(
    jobs: Iterable[Job],
    load: Callable[[], Judge],
    workers: int,
    memory: int | None = DEFAULT_LIMITS.memory,
    attempts: int = 1,
    address: str | None = None,
    tell: Callable[[str], None] = log.warning,
) -> Generator[tuple[Job, Prediction], None, None]:
    """As `judge_each`, by `workers` actors of the Ray cluster at `address` ("auto", "host:port").

    None: on this machine. `load` must be importable on the nodes, so not of a script. `tell` gets a
    line where actors are lost or wait for room. A file that LOSSES actors were lost over is an
    error `worker_lost`.

    Raises what `judge_each` raises, and AvfakeError `needs_extra` (without the extra `scale`),
    `no_cluster`, `cluster_lost`, `no_worker` or `other_version`.
    """

    def longest(job: Job) -> float:
        return attempts * (job.timeout + _STARTING) + _GRACE

    setup = partial(_Desk, load, memory, attempts, os.getcwd())
    for job, answer in spread(jobs, setup, workers, address, tell, longest):
        path = os.fspath(job.path)
        if isinstance(answer, Lost):
            text = f"{name_of(path)} lost its worker on the cluster {LOSSES} times."
            answer = Prediction(path, "error", "worker_lost", text)
        yield job, replace(answer, path=path)


def spread(
    items: Iterable[Item],
    setup: Callable[[], Callable[[Item], Answer]],
    workers: int,
    address: str | None = None,
    tell: Callable[[str], None] = log.warning,
    longest: Callable[[Item], float] = lambda _: math.inf,
    home: Path | None = None,
) -> Generator[tuple[Item, Answer | Lost], None, None]:
    """Do many items on a cluster; yield each with its answer, as they come, exactly once.

    `setup()` runs once in each actor and returns the function that takes an item; an item is asked
    for only when an actor is free for it. `longest`: seconds that an item may take before its actor
    is taken for lost; `home`: a folder that the actors import from besides what is installed.

    Raises what that function raises, and AvfakeError as `judge_on_cluster` does.
    """
    ray = _ray()
    with _connected(ray, address, workers, home):
        crew: _Crew[Item, Answer] = _Crew(ray, setup, workers, tell, longest)
        try:
            yield from crew.work(items)
        finally:
            crew.dismiss()


class _Desk:
    """`judge_each` with one worker, job by job."""

    def __init__(
        self, load: Callable[[], Judge], memory: int | None, attempts: int, folder: str
    ) -> None:
        self._job: Job | None = None
        self._folder = folder  # that relative paths are relative to
        self._answers = judge_each(self._jobs(), load, 1, memory, attempts)

    def __call__(self, job: Job) -> Prediction:
        path = os.fspath(job.path)
        if "://" not in path:
            path = os.path.join(self._folder, path)
        self._job = replace(job, path=path)
        _, prediction = next(self._answers)
        return prediction

    def _jobs(self) -> Iterator[Job]:
        while self._job is not None:
            yield self._job


class _Actor:
    """What runs on the cluster."""

    def __init__(self, setup: Callable[[], Callable[[Any], Any]]) -> None:
        # A process started from here would import Ray's main module again, which takes it a second
        # and 90 MB, were it told where that is.
        vars(sys.modules["__main__"]).pop("__file__", None)
        self._setup = setup

    def ready(self, version: str) -> None:
        if version != __version__:
            text = f"{socket.gethostname()} has avfake {__version__}; {version} was asked for."
            raise AvfakeError("other_version", text)
        self._do = self._setup()

    def do(self, item: Any) -> Any:
        return self._do(item)


class _Place(Generic[Item]):
    """A place in the crew: the actor that has it now, and what that is at."""

    def __init__(self, hire: Callable[[], Any]) -> None:
        self._hire = hire
        self.failed = 0  # actors in a row that were lost before they were ready
        self.replace()

    def replace(self) -> None:
        self.actor = self._hire()
        self.since = time.monotonic()
        self.ref: Any = self.actor.ready.remote(__version__)  # None: the actor is free
        self.item: Item | None = None  # None while it is starting
        self.due = math.inf

    def begin(self, item: Item, longest: float) -> None:
        self.item, self.due = item, time.monotonic() + longest
        self.ref = self.actor.do.remote(item)


class _Crew(Generic[Item, Answer]):
    """All places, and the queue of what lost actors left behind."""

    def __init__(
        self,
        ray: Any,
        setup: Callable[[], Callable[[Item], Answer]],
        workers: int,
        tell: Callable[[str], None],
        longest: Callable[[Item], float],
    ) -> None:
        self._ray = ray
        self._tell = tell
        self._longest = longest
        # Ray would restart actors and repeat calls by itself, but then nobody here would count.
        actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Actor)
        self._places: list[_Place[Item]] = [
            _Place(partial(actor.remote, setup)) for _ in range(workers)
        ]
        self._again: deque[Item] = deque()
        self._losses: Counter[int] = Counter()  # by the item's id, while it has no answer
        self._told = time.monotonic()
        self._head: str = ray.get_runtime_context().gcs_address
        self._looked = time.monotonic()

    def work(self, items: Iterable[Item]) -> Iterator[tuple[Item, Answer | Lost]]:
        waiting = iter(items)
        while True:
            for place in self._places:
                if place.ref is None:
                    item = self._again.popleft() if self._again else next(waiting, None)
                    if item is not None:
                        place.begin(item, self._longest(item))
            idle = all(place.item is None for place in self._places) and not self._again
            if idle and any(place.ref is None for place in self._places):
                return
            for place in self._news():
                if (done := self._result(place)) is not None:
                    self._losses.pop(id(done[0]), None)
                    yield done

    def dismiss(self) -> None:
        for place in self._places:
            self._ray.kill(place.actor)

    def _news(self) -> list[_Place[Item]]:
        """Places whose actor answered, died or is overdue; waits for them for a second at most."""
        busy = {place.ref: place for place in self._places if place.ref is not None}
        done, _ = self._ray.wait(list(busy), num_returns=1, timeout=1.0)
        if done:
            done, _ = self._ray.wait(list(busy), num_returns=len(busy), timeout=0)
        now = time.monotonic()
        starting = [place for place in busy.values() if place.item is None]
        waiting = any(now - place.since > TELL_EVERY for place in starting)
        if waiting and now - self._told > TELL_EVERY:
            self._told = now
            count = f"{len(starting)} of {len(self._places)} workers"
            self._tell(f"{count} wait for room on the cluster, or to start.")
        if now - self._looked > _LOOK_EVERY:
            self._look()
        late = [place for place in busy.values() if now > place.due and place.ref not in done]
        return [busy[ref] for ref in done] + late

    def _look(self) -> None:
        """Return when the cluster's head answers, at once as a rule: what is asked of Ray without
        one may never end. Raises AvfakeError `cluster_lost` where it stays away, or where the node
        is lost that this program runs on, without which no new actor starts."""
        began = time.monotonic()
        while not self._head_answers():
            if time.monotonic() - began > _HEADLESS:
                raise AvfakeError("cluster_lost", f"The Ray cluster's head, {self._head}, is gone.")
            time.sleep(1.0)
        self._looked = time.monotonic()
        own = self._ray.get_runtime_context().get_node_id()
        if any(node["NodeID"] == own and not node["Alive"] for node in self._ray.nodes()):
            text = "The Ray cluster has lost the node that this program runs on."
            raise AvfakeError("cluster_lost", text)

    def _head_answers(self) -> bool:
        host, _, port = self._head.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_LOOK_EVERY).close()
        except OSError:
            return False
        return True

    def _result(self, place: _Place[Item]) -> tuple[Item, Answer | Lost] | None:
        """What came of a place's item; None where nothing did, or there was none."""
        faults = self._ray.exceptions
        item = place.item
        try:
            answer: Answer = self._ray.get(place.ref, timeout=0)
        except faults.RayTaskError as error:
            if item is None:
                raise _cannot_start(error.cause) from None
            raise error.cause from None
        except (
            faults.RayActorError,
            faults.NodeDiedError,
            faults.WorkerCrashedError,
            faults.OutOfMemoryError,  # Ray's, of the node
            faults.ObjectLostError,  # the answer was on a node that died
            faults.GetTimeoutError,  # the actor is overdue
        ) as error:
            return self._lose(place, error)
        place.ref, place.item, place.failed = None, None, 0
        return None if item is None else (item, answer)

    def _lose(self, place: _Place[Item], error: Exception) -> tuple[Item, Lost] | None:
        log.debug("lost an actor: %s", error)
        self._look()
        self._ray.kill(place.actor)
        item = place.item
        place.failed += item is None
        if place.failed == LOSSES:
            raise _cannot_start(error)
        place.replace()
        if item is None:
            return None
        self._tell("A worker on the cluster was lost; another does what it was at.")
        self._losses[id(item)] += 1
        if self._losses[id(item)] == LOSSES:
            return item, Lost()
        self._again.append(item)
        return None


def _cannot_start(error: BaseException) -> AvfakeError:
    if isinstance(error, AvfakeError):
        return error
    said = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return AvfakeError("no_worker", f"No worker starts on the cluster: {said[-1].strip()}")


def _ray() -> Any:
    """The package: heavy, and of an extra, so imported only here."""
    try:
        return importlib.import_module("ray")
    except ImportError:
        text = "A cluster needs Ray: pip install 'avfake[scale]'."
        raise AvfakeError("needs_extra", text) from None


@contextlib.contextmanager
def _connected(ray: Any, address: str | None, workers: int, home: Path | None) -> Iterator[None]:
    """Ray at `address`, or one of our own; one that the caller has started is used as it is."""
    if ray.is_initialized():
        yield
        return
    # Ray's own folder is one for all users, and its names of sockets must stay short.
    base = "/tmp" if os.path.isdir("/tmp") else None
    with (
        tempfile.TemporaryDirectory(
            prefix="avfake-", dir=base, ignore_cleanup_errors=True
        ) as private,
        locked(Path(private)),
    ):
        # Ray lets its workers import from the folder that it is started in: in the one that the
        # user is in, strangers' files may lie.
        with _environment(), contextlib.chdir(home or private):
            try:
                _start(ray, address, workers, private)
            except Exception as error:
                ray.shutdown()
                where = "on this machine" if address is None else f"at {address}"
                text = f"There is no Ray cluster {where}: {_first_line(error)}"
                raise AvfakeError("no_cluster", text) from None
        try:
            yield
        finally:
            ray.shutdown()


def _start(ray: Any, address: str | None, workers: int, private: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        host, colon, port = address.rpartition(":")
        if colon and port.isdigit():  # Ray itself would try for many minutes
            socket.create_connection((host, int(port)), _CONNECT).close()
        ray.init(address, **quiet)
        return
    ray.init(
        "local",
        num_cpus=workers,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=_OBJECTS,
        _node_ip_address="127.0.0.1",
        _temp_dir=private,
        **quiet,
    )


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """What Ray reads from the environment while it starts, where the user has not set it."""
    wanted = {
        "RAY_USAGE_STATS_ENABLED": "0",  # it would report to its makers
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # and it would warn of this
    }
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
