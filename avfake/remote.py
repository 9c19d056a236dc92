"""Inputs that lie elsewhere, by URL: fetched by the worker that judges them, then gone.

    load = Fetching(Models(threads=1), protocols("s3,https"), Limits().bytes)
    judge_each([Job("s3://bucket/clip.mp4")], load, workers=2)

Nothing is fetched but by a protocol that the user named (`--fetch s3,https`); any other URL is a
file name, and no file has it. fsspec does the work, each protocol with its own library: s3 needs
s3fs, gs gcsfs, az adlfs. Where credentials come from is theirs to say.

What is fetched goes into a file without a name that only its process can open, so that nothing is
left of it however the process ends. The answer has the URL as it was given for its path, while
messages have only its last part: addresses may hold passwords and signatures.

Only http, https and file addresses are written with %-signs for what has a meaning in them; in the
others each character stands for itself.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from avfake.types import AvfakeError, Prediction
from avfake.workers import Judge, name_of

PROTOCOLS = ("https", "http", "s3", "gs", "az", "file", "memory")
"""What can be named. fsspec knows more, of which some open what a URL hides in another."""
_LIBRARIES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}
PATIENCE = 60.0  # seconds without a byte, or until a server answers
_PART = 1 << 20  # bytes read at a time
_HTTP = ("http", "https")
# Faults of libraries that may not be installed, by the names of their classes.
_FAULTS = {
    "ClientPayloadError": "it broke off",  # aiohttp
    "FileExpired": "it was changed while it was read",  # s3fs
    "NoCredentialsError": "there are no credentials for it",  # botocore, as are the next
    "EndpointConnectionError": "the server cannot be reached",
    "ParamValidationError": "its address is not valid",
}


def protocols(text: str) -> tuple[str, ...]:
    """The protocols of `--fetch s3,https`. Raises AvfakeError `usage` for what cannot be had."""
    named = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for name in named:
        if name not in PROTOCOLS:
            known = ", ".join(PROTOCOLS)
            raise AvfakeError("usage", f"{name!r} cannot be fetched from, only {known}.")
        _filesystem(name)
    return named


def is_url(path: str, allowed: tuple[str, ...]) -> bool:
    """Whether `path` is an address of one of the `allowed` protocols, and no file's name."""
    return _protocol(path) in allowed


@dataclass(frozen=True)
class Fetching:
    """What a worker loads: what `load` gives, for files and for addresses.

    `protocols`: of those that are fetched; `bytes`: that one may have.
    """

    load: Callable[[], Judge]
    protocols: tuple[str, ...]
    bytes: int

    def __call__(self) -> Judge:
        return _Fetcher(self.load(), self.protocols, self.bytes)


class _Fetcher:
    def __init__(self, judge: Judge, protocols: tuple[str, ...], bytes: int) -> None:
        self._judge = judge
        # Made here, while models are loaded: what they import takes seconds, which are no file's.
        self._systems = {name: _filesystem(name, protocols) for name in protocols}
        self._bytes = bytes
        logging.getLogger("botocore").setLevel(logging.INFO)  # below, it tells signatures and keys

    def predict(self, path: str, longest: float | None = None) -> Prediction:
        """As the judge does. What cannot be fetched is an error `not_fetched` or, where it has more
        bytes than it may, `file_too_large`."""
        if _protocol(path) not in self._systems:
            return self._judge.predict(path, longest)
        if _protocol(path) == "file":
            local = unquote("/" + path.partition("://")[2].partition("/")[2])
            return replace(self._judge.predict(local, longest), path=path)
        name = _name(path)
        with tempfile.TemporaryFile() as file:
            try:
                self._fetch(path, file)
            except Exception as error:
                reason = error.reason if isinstance(error, AvfakeError) else "not_fetched"
                text = f"{name} could not be fetched: {_why(error)}."
                return Prediction(path, "error", reason, text)
            number = str(file.fileno())
            prediction = self._judge.predict(f"/dev/fd/{number}", longest)
        message = prediction.message
        if message is not None and message.startswith(f"{number} "):
            message = name + message.removeprefix(number)
        return replace(prediction, path=path, message=message)

    def _fetch(self, url: str, file: Any) -> None:
        """Write what `url` holds to `file`, as far as it may be written."""
        if "::" in url:
            raise AvfakeError("not_fetched", "an address within an address is not followed")
        protocol = _protocol(url)
        url = protocol + url[len(protocol) :]  # S3:// is s3://, which not all of them know
        system = self._systems[protocol]
        facts = system.info(url)
        if facts.get("type") == "directory":
            raise AvfakeError("not_fetched", "it is a folder")
        size = facts.get("size")
        # HTTP's own buffer asks a server for ranges, which not all of them know.
        options = {"block_size": 0, "size": size} if protocol in _HTTP else {}
        self._check(size or 0)
        count = 0
        with system.open(url, "rb", **options) as source:
            while part := source.read(_PART):
                count += len(part)
                self._check(count)  # a server may send more than it said
                file.write(part)
        if size is not None and count < size:
            raise AvfakeError("not_fetched", f"it broke off after {count} of {size} bytes")
        file.flush()

    def _check(self, count: int) -> None:
        if count > self._bytes:
            raise AvfakeError("file_too_large", f"it has more than {self._bytes} bytes")


def _protocol(path: str) -> str:
    """s3 of s3://bucket/clip.mp4; empty for the name of a file."""
    found = re.match(r"([a-z][a-z0-9]*)://", path, re.IGNORECASE)
    return found[1].lower() if found else ""


def _name(url: str) -> str:
    """The last part of an address."""
    return unquote(name_of(url)) if _protocol(url) in _HTTP else name_of(url)


def _filesystem(protocol: str, allowed: tuple[str, ...] = ()) -> Any:
    """fsspec's, for one protocol; redirections may only lead to those that are `allowed`."""
    try:
        import fsspec

        if protocol not in ("http", "https"):
            return fsspec.filesystem(protocol)
        import aiohttp

        client = partial(_client, aiohttp, allowed)
        return fsspec.filesystem(protocol, get_client=client)
    except ImportError:
        needed = _LIBRARIES.get(protocol, "'avfake[scale]'")
        text = f"Fetching by {protocol} needs more: pip install {needed}."
        raise AvfakeError("needs_extra", text) from None
    except ValueError as error:  # a library that wants to know an account from the beginning
        raise AvfakeError("usage", f"Fetching by {protocol} cannot begin: {error}") from None


async def _client(aiohttp: Any, allowed: tuple[str, ...], **options: Any) -> Any:
    """A session that waits for PATIENCE and follows no redirection to another protocol."""

    async def check(session: Any, context: Any, params: Any) -> None:
        target = urlsplit(params.response.headers.get("Location", "")).scheme.lower()
        if target and target not in allowed:
            raise AvfakeError("not_fetched", f"it lies at {target}, which --fetch does not name")

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(check)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE, sock_read=PATIENCE)
    return aiohttp.ClientSession(trace_configs=[trace], timeout=timeout, trust_env=True, **options)


def _why(error: BaseException) -> str:
    """A fault in a few words. Those of libraries hold the address: they are left out."""
    for one in _causes(error):
        if isinstance(one, AvfakeError):
            return str(one)
        if (known := _FAULTS.get(type(one).__name__)) is not None:
            return known
        if isinstance(status := getattr(one, "status", None), int):
            return f"the server answers {status}"
        if isinstance(one, ValueError):
            return "its address is not valid"
        # fsspec says "not there" of a server that nobody reaches, too; its cause knows better.
        if one is not error and isinstance(one, OSError) and one.errno is not None:
            return os.strerror(one.errno)
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    if isinstance(error, PermissionError):
        return "access is refused"
    if isinstance(error, TimeoutError):
        return "nothing comes any more"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return f"{type(error).__name__}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
