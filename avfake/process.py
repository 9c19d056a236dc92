"""A worker process that is watched from outside: what its work does to it costs nobody else.

    worker = Worker(setup, memory=3 << 30)
    try:
        answer = worker.call(item, timeout=60)
    except Fault as fault:
        print(fault.reason)  # the next call has a new process
    finally:
        worker.stop()

`setup()` runs once in the process and returns the function that takes an item. Items and answers
travel through a pipe between the two processes, pickled as `multiprocessing` does it, and never
through a file. What the process prints, decoders in C included, ends here, counted; what it logs
goes to the standard error of the process that started it.

Of our own, because process pools (`concurrent.futures`, `pebble`, `loky`) share pipes and locks
among workers, so that one that dies may take others along, and none keeps a ceiling on memory or
output, or tells how a worker died.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import psutil

from avfake.terminal import log_to
from avfake.types import AvfakeError

FAULTS = ("timeout", "out_of_memory", "too_much_output", "worker_crashed", "worker_exited")
"""What an item can do to its worker: take too long, too much memory or print without end, crash it
(a signal, as a segmentation fault sends) or make it leave (an exit status)."""
WATCH_EVERY = 0.05
"""Seconds between two looks at a busy worker; at 4 GB/s a ceiling is overrun by 0.2 GB."""
_STARTING = 300.0  # seconds that `setup` may take
_STARTS = 3  # processes in a row that may die before they take an item on
_OUTPUT = 16 << 20  # bytes that may be printed over one item
_TAIL = 2000  # bytes of it that are kept, to tell why a process died

_STARTER = threading.Lock()  # the environment, which is changed for it, is the whole process's

Item = TypeVar("Item")
Answer = TypeVar("Answer")
log = logging.getLogger(__name__)


class Fault(Exception):
    """What an item did to its worker.

    `reason`: one of FAULTS; `str(fault)`: a predicate, such as "took more than 60 s".
    """

    def __init__(self, reason: str, predicate: str) -> None:
        super().__init__(predicate)
        self.reason = reason


class Worker(Generic[Item, Answer]):
    """One process at a time, started when it is needed, and a new one after each fault.

    `setup` must be picklable, as must items and answers; `memory`: bytes that the process may hold
    resident, None for any number. `hear` is called with what the work tells on its way: `setup` is
    then given the function to tell it with. Whoever has several workers calls `start` on those that
    are free, waits for `waitables` of those that are busy (WATCH_EVERY seconds at most), asks each
    whether it is `done`, and takes its `result`.
    """

    def __init__(
        self,
        setup: Callable[..., Callable[[Item], Answer]],
        memory: int | None = None,
        hear: Callable[[Any], None] | None = None,
    ) -> None:
        self._setup = setup
        self._memory = memory
        self._hear = hear
        self._child: _Child | None = None
        self._item: Item | None = None
        self._timeout = 0.0
        self._starts = 0
        self._outcome: tuple[Answer | None, Exception | None] | None = None

    def call(self, item: Item, timeout: float) -> Answer:
        """What `setup`'s function answers, or what it raises.

        Raises Fault, and AvfakeError `no_worker` where no process lives until it takes an item on,
        or on Windows.
        """
        self.start(item, timeout)
        try:
            while not self.done():
                wait(self.waitables(), WATCH_EVERY)
        except BaseException:  # as Ctrl-C is: nobody waits for it, so it goes on with nothing
            self.stop()
            raise
        return self.result()

    def start(self, item: Item, timeout: float) -> None:
        """Hand over an item. Its `timeout`, seconds, runs from when the process takes it on.

        An item that it is still at is given up.
        """
        if self._outcome is None:
            self.stop()  # else that one's answer would be taken for this one's
        self._item, self._timeout, self._outcome = item, timeout, None
        self._starts = 0
        self._send()

    def waitables(self) -> list[Any]:
        """What has news when there are some, for `multiprocessing.connection.wait`."""
        return [] if self._child is None else self._child.waitables()

    def done(self) -> bool:
        """Take the process's news, and stop it where it must be; whether there is a result."""
        child = self._child
        if self._outcome is None and child is not None:
            # Whether it lives is asked before its last words are read, so that none are missed.
            alive = child.process.is_alive()
            for what, value in child.news():
                if what == "answer":
                    self._outcome = value, None
                elif what == "raised":
                    self._outcome = None, value
                elif what == "told" and self._hear is not None:
                    self._hear(value)
            if self._outcome is None:
                fault = child.fault(alive, self._timeout, self._memory)
                if fault is not None:
                    self._lose(child, fault)
        return self._outcome is not None

    def result(self) -> Answer:
        """The answer, once it is `done`. Raises what `call` raises."""
        if self._outcome is None:
            raise ValueError("the worker is not done")
        answer, error = self._outcome
        if error is not None:
            raise error
        return answer  # type: ignore[return-value]

    def stop(self) -> None:
        """End the process, whatever it is at. Safe to call twice."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _send(self) -> None:
        if self._child is None:
            try:
                self._child = _Child(self._setup, self._hear is not None)
            except OSError as error:  # too many processes or open files, or no memory
                text = f"No worker process can be started: {error.strerror}."
                raise AvfakeError("no_worker", text) from None
            self._starts += 1
        self._child.send(self._item)

    def _lose(self, child: _Child, fault: Fault) -> None:
        """The process is lost: by its item, or before it took that on."""
        self.stop()
        if child.said:
            log.debug("a worker %s; it said last: %s", fault, child.said.decode(errors="replace"))
        if child.begun:
            self._outcome = None, fault
        elif self._starts < _STARTS:
            self._send()
        else:
            text = f"No worker process lives until its first file: the last one {fault}."
            self._outcome = None, AvfakeError("no_worker", text)


class _Child:
    """A process, its pipe and what it prints."""

    def __init__(self, setup: Callable[..., Callable[[Any], Any]], telling: bool) -> None:
        if sys.platform == "win32":  # its pipes are no files, which decoders in C could print to
            raise AvfakeError("no_worker", "Worker processes need Linux or macOS; on Windows, WSL.")
        # Started afresh, not forked: FFmpeg, OpenCV and onnxruntime hold threads and locks.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._output, printed = context.Pipe(duplex=False)
        level = logging.getLogger().getEffectiveLevel()
        self.process = context.Process(
            target=_serve, args=(setup, telling, theirs, printed, level), daemon=True
        )
        with _safe_path(), _undisturbed():
            self.process.start()
        theirs.close()  # so that the pipes end when the process does
        printed.close()
        os.set_blocking(self._output.fileno(), False)
        self._watched = psutil.Process(self.process.pid)
        self._open = [self.pipe, self._output]
        self._since = time.monotonic()
        self._printed = 0
        self._tail: deque[int] = deque(maxlen=_TAIL)
        self.begun = False

    @property
    def said(self) -> bytes:
        """The end of what it printed."""
        return bytes(self._tail)

    def waitables(self) -> list[Any]:
        return [*self._open, self.process.sentinel]

    def send(self, item: Any) -> None:
        self._since = time.monotonic()
        with contextlib.suppress(OSError):  # it died after its last item: `fault` will tell
            self.pipe.send(item)

    def news(self) -> list[tuple[str, Any]]:
        """Its messages since the last time."""
        found = []
        try:
            while self.pipe in self._open and self.pipe.poll():
                try:
                    what, value = self.pipe.recv()
                except (EOFError, OSError):
                    raise
                except Exception as error:  # such as an exception that takes more than its text
                    what, value = "raised", RuntimeError(f"An answer cannot be read: {error}")
                if what == "begun":
                    self._since, self._printed = time.monotonic(), 0
                self.begun = what in ("begun", "told")
                found.append((what, value))
        except (EOFError, OSError):  # OSError: it died in the midst of a message
            self._open.remove(self.pipe)
        try:
            while self._output in self._open and self._printed <= _OUTPUT:
                part = os.read(self._output.fileno(), 1 << 16)
                if not part:
                    self._open.remove(self._output)
                self._printed += len(part)
                self._tail.extend(part[-_TAIL:])
        except BlockingIOError:
            pass
        return found

    def fault(self, alive: bool, timeout: float, memory: int | None) -> Fault | None:
        """What is wrong with it, if anything."""
        if not alive or self.pipe not in self._open:
            self.process.join(1.0)
            return _death(self.process.exitcode)
        if self._printed > _OUTPUT:
            return Fault("too_much_output", f"printed more than {_OUTPUT >> 20} MB")
        try:
            held = self._watched.memory_info().rss
        except psutil.Error:
            held = 0  # it has just died: how will be known next time
        if memory is not None and held > memory:
            return Fault("out_of_memory", f"took more than {memory / 2**30:.3g} GB of memory")
        # An item that was sent and is not begun waits for a process that is starting.
        limit = timeout if self.begun else _STARTING
        if time.monotonic() - self._since > limit:
            return Fault("timeout", f"took more than {limit:.3g} s")
        return None

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()
        self._output.close()


@contextmanager
def _safe_path() -> Iterator[None]:
    """Processes that start meanwhile do not import from the current folder.

    `multiprocessing` starts them as `python -c`, which would look there before anywhere else: a
    `json.py` among a stranger's files would run.
    """
    with _STARTER:
        before = os.environ.get("PYTHONSAFEPATH")
        os.environ["PYTHONSAFEPATH"] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ["PYTHONSAFEPATH"]
            else:
                os.environ["PYTHONSAFEPATH"] = before


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C, which a terminal sends to all processes of a command, waits until this is over: a
    process half started would leave a trace.

    Those that start meanwhile inherit that it is blocked, until `_serve` has it ignored. This one
    holds it back by a handler, for libraries' threads may take it that do not block it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # when that is started, it lets Ctrl-C through again
    came: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    mine = handler is not None and threading.current_thread() is threading.main_thread()
    if mine:
        signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if mine:
            signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def _death(code: int | None) -> Fault:
    if code is None:
        return Fault("worker_crashed", "cut its worker off")
    if code >= 0:
        return Fault("worker_exited", f"ended its worker with exit status {code}")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ": perhaps this machine is out of memory" if name == "SIGKILL" else ""
    return Fault("worker_crashed", f"crashed its worker ({name}{hint})")


def _serve(
    setup: Callable[..., Callable[[Any], Any]],
    telling: bool,
    pipe: Connection,
    printed: Connection,
    level: int,
) -> None:
    """The process's life: items in, answers out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it ends it
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _redirect(printed, level)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        handle = setup(lambda news: pipe.send(("told", news))) if telling else setup()
    except Exception as error:
        handle = _raising(error)
    while True:
        try:
            item = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        pipe.send(("begun", None))
        try:
            reply = "answer", handle(item)
        except Exception as error:
            reply = "raised", error
        try:
            pipe.send(reply)
        except BrokenPipeError:
            return
        except Exception as error:  # what cannot be pickled can still be told
            text = f"{reply[1]!r} cannot leave its process: {error}"
            pipe.send(("raised", RuntimeError(text)))


def _raising(error: Exception) -> Callable[[Any], Any]:
    def handle(item: Any) -> Any:
        raise error

    return handle


def _redirect(printed: Connection, level: int) -> None:
    """Send what is printed to the parent, and what is logged to where it would have gone."""
    try:
        kept = os.dup(2)
    except OSError:  # whoever started us has none
        kept = os.open(os.devnull, os.O_WRONLY)
    log_to(os.fdopen(kept, "w", buffering=1, errors="replace"), level, force=True)
    for stream in (1, 2):
        os.dup2(printed.fileno(), stream)
    printed.close()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
