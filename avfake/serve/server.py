"""One server from its start to its end, whichever way it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from avfake.process import Fault
from avfake.scratch import scratch
from avfake.serve.app import make_app
from avfake.serve.jobs import Jobs
from avfake.serve.settings import Settings
from avfake.serve.store import Store
from avfake.types import AvfakeError

if TYPE_CHECKING:
    from avfake.detector import Detector

HEAD_SECONDS = 10.0
"""Seconds that the head of a request may take to come in."""
CONNECTIONS = 200
"""Connections that are served at a time; more get a 503."""
GRACE = 3  # seconds that answers under way have at the end

log = logging.getLogger("avfake.serve")


def serve(settings: Settings, ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve until the process is told to end (SIGINT, SIGTERM or SIGHUP).

    `ready` hears the address once requests are answered. Raises AvfakeError: `address_taken`,
    `no_such_address`, `no_worker`, or what loading the models raises.
    """
    with (
        contextlib.suppress(KeyboardInterrupt),
        _ended_by_signals(),
        contextlib.closing(listen(settings)) as listening,
        scratch() as folder,
    ):
        asyncio.run(run(settings, Store(folder), listening, settings.models, ready))


def address(listening: socket.socket) -> str:
    """Where to point a browser."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


async def run(
    settings: Settings,
    store: Store,
    listening: socket.socket,
    load: Callable[[], Detector],
    ready: Callable[[str], None],
) -> None:
    """Serve at a listening socket until uvicorn hears a signal, or this is cancelled.

    `load`: what gives a worker process its detector; picklable.
    """
    jobs = Jobs(settings, store, load)
    try:
        async with jobs.open():
            config = uvicorn.Config(
                make_app(settings, store, jobs),
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS,
                timeout_graceful_shutdown=GRACE,
            )
            server = uvicorn.Server(config)
            ready(address(listening))
            await server.serve([listening])
    except Fault as fault:
        raise AvfakeError("no_worker", f"No worker process can be started: one {fault}.") from None


class _Protocol(H11Protocol):
    """HTTP/1.1, and nobody holds a connection by never ending the head of a request."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        waits = self.conn.their_state is h11.IDLE
        if waits and self._waiting is None:
            self._waiting = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
        elif not waits and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


def listen(settings: Settings) -> socket.socket:
    """A socket that others can connect to, and wait at until they are served.

    Raises AvfakeError `no_such_address` or `address_taken`.
    """
    try:
        info = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(info[0], info[1])
    except OSError as error:
        text = f"{settings.host} is no address of this machine: {error.strerror or error}."
        raise AvfakeError("no_such_address", text) from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(info[4])
        listening.listen()  # at once: two servers may be bound to a port, but only one listens
    except OSError as error:
        listening.close()
        text = f"Nothing can listen at {settings.host}, port {settings.port}: {error.strerror}."
        raise AvfakeError("address_taken", text) from None
    return listening


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """However the process is told to end, it ends as by Ctrl-C, and cleans up undisturbed.

    uvicorn hands a signal on to who had it before, once it has shut down.
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(*_: object) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
