"""A server in a thread of the tests' own process, and how to talk to it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from avfake.serve.server import listen, run
from avfake.serve.settings import Settings
from avfake.serve.store import Store
from tests.serve.fakes import scripted

BOUNDARY = "bo7und4ary"
TOKEN = "0123456789abcdefghij"


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The code of a refusal."""
        return str(self.json["error"]["reason"])


@dataclass
class Client:
    """Talks to a server. `headers` go along with each request."""

    host: str
    port: int
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, address: str) -> Client:
        parts = urlsplit(address)
        assert parts.hostname is not None
        assert parts.port is not None
        return cls(parts.hostname, parts.port)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Reply:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        with closing(connection):
            connection.request(method, path, body, self.headers | (headers or {}))
            reply = connection.getresponse()
            return Reply(reply.status, reply.headers, reply.read())

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def send(self, content: bytes, name: str = "clip.mp4", **headers: str) -> Reply:
        """Upload a file."""
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        more = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.ask("POST", "/v1/predictions", form(content, name), kind | more)

    def sent(self, content: bytes, name: str = "clip.mp4") -> str:
        """Upload a file, which must be taken; its id."""
        reply = self.send(content, name)
        assert reply.status == 202, reply.body
        return str(reply.json["id"])

    def done(self, id_: str, patience: float = 60) -> dict[str, Any]:
        """A clip, once it is done."""
        return self.wait(id_, lambda job: job["state"] == "done", patience)

    def wait(
        self, id_: str, fits: Callable[[dict[str, Any]], bool], patience: float = 60
    ) -> dict[str, Any]:
        until = time.monotonic() + patience
        while time.monotonic() < until:
            job: dict[str, Any] = self.get(f"/v1/predictions/{id_}").json
            if fits(job):
                return job
            time.sleep(0.03)
        raise AssertionError(f"still {job}")

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), 60)

    def raw(self, head: str, body: bytes = b"") -> Reply:
        """Send just these bytes and read until the server closes."""
        with self.connect() as connection:
            connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
            return read_reply(connection)


def read_reply(connection: socket.socket) -> Reply:
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    return Reply(reply.status, reply.headers, reply.read())


def form(content: bytes, name: str = "clip.mp4", field: str = "file") -> bytes:
    head = f'Content-Disposition: form-data; name="{field}"; filename="{name}"'
    return b"".join(
        [
            f"--{BOUNDARY}\r\n{head}\r\nContent-Type: video/mp4\r\n\r\n".encode(),
            content,
            f"\r\n--{BOUNDARY}--\r\n".encode(),
        ]
    )


@contextmanager
def served(
    folder: Path, load: Callable[[], Any] = scripted, headers: Any = None, **settings: Any
) -> Iterator[Client]:
    """A server with these settings whose files lie in `folder`."""
    chosen = Settings(**{"port": 0, **settings})
    address: list[str] = []
    fault: list[BaseException] = []
    ready = threading.Event()
    ends: list[Callable[[], Any]] = []

    def heard(where: str) -> None:
        address.append(where)
        ready.set()

    async def main() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        ends.append(lambda: loop.call_soon_threadsafe(task.cancel))
        with closing(listen(chosen)) as listening:
            await run(chosen, Store(folder), listening, load, heard)

    def work() -> None:
        try:
            asyncio.run(main())
        except (Exception, asyncio.CancelledError) as error:
            fault.append(error)
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(120)
        if fault:
            raise fault[0]
        client = Client.of(address[0])
        client.headers = headers or {}
        yield client
    finally:
        if not fault:
            ends[0]()
        thread.join(60)
    assert not thread.is_alive()
