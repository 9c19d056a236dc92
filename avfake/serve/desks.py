"""Worker processes, each with a thread that watches it, for an event loop that must not wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from typing import Any

from avfake.process import WATCH_EVERY, Fault, Worker


class Stopped(Exception):
    """Whoever asked does not want the answer any more."""


class Desk:
    """One worker process (see `avfake.process.Worker`), started with its first item.

    Items are worked on one after the other. Whoever stops waiting for an answer, by cancelling,
    ends the work on it, and goes on once it has ended: an item whose turn has not come is dropped,
    the process of one that is worked on is killed, and the next item has a new one. Where items are
    `short`, such a process is left to finish, for a new one would have to load its models again.
    """

    def __init__(
        self,
        setup: Callable[..., Callable[[Any], Any]],
        memory: int | None,
        hear: Callable[[Any], None] | None = None,
        short: bool = False,
    ) -> None:
        self._worker: Worker[Any, Any] = Worker(setup, memory, hear)
        self._thread = ThreadPoolExecutor(1, "avfake-desk")
        self._closed = threading.Event()
        self._short = short
        self.waiting = 0  # items handed over and not answered yet

    async def ask(self, item: Any, timeout: float) -> Any:
        """The worker's answer. `timeout`: seconds from when the process takes the item on.

        Raises what `Worker.call` does. Where the work raised something, what its process holds may
        be broken, as models that could not be loaded are: the next item has a new one.
        """
        stop = threading.Event()
        self.waiting += 1
        future = self._thread.submit(self._call, item, timeout, stop)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not self._short:
                stop.set()
                await asyncio.gather(asyncio.wrap_future(future), return_exceptions=True)
            raise
        finally:
            self.waiting -= 1

    def rest(self) -> None:
        """Let go of the process, once it has answered what it was asked."""
        self._thread.submit(self._worker.stop)

    def close(self) -> None:
        """End the process, whatever it is at. Safe to call twice."""
        self._closed.set()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._worker.stop()

    def _call(self, item: Any, timeout: float, stop: threading.Event) -> Any:
        worker = self._worker
        try:
            worker.start(item, timeout)
            while not worker.done():
                if stop.is_set() or self._closed.is_set():
                    raise Stopped
                wait(worker.waitables(), WATCH_EVERY)
            return worker.result()
        except Fault:
            raise  # the worker has stopped its process itself
        except BaseException:
            worker.stop()
            raise
