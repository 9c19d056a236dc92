"""One form with one file, from the network into one file on disk, capped and hashed on its way.

Starlette's own form parser spools every part of a form before anybody can look at it; this one
refuses what is not a single part called `file` as soon as its headers are there, and never writes
a byte more than the cap. The limits on a part's headers and on the boundary are those of
python-multipart (8 headers of 4 KB; 256 bytes).
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import re
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request
from starlette.types import Receive

from avfake.serve.faults import ApiError
from avfake.serve.store import Store

OVERHEAD = 64 << 10
"""Bytes of a body that may be other than the file's: boundaries and headers."""
BATCH = 256 << 10  # bytes that are parsed, hashed and written at a time
SILENCE = 30.0
"""Seconds without a byte after which an upload is given up."""
SLOWEST = 4096
"""Bytes a second that an upload brings on average, after SILENCE seconds of grace."""
_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("3g2", "3gp", "asf", "avi", "flv", "ivf", "m2ts", "m4v", "mj2", "mkv", "mov", "mp4"),
        *("gif", "mpeg", "mpg", "mts", "ogv", "ts", "webm", "wmv"),
        *("aac", "aif", "aiff", "amr", "flac", "m4a", "mp2", "mp3", "oga", "ogg", "opus", "w64"),
        *("wav", "wma", "bmp", "jpeg", "jpg", "png", "webp"),
    )
)
"""Endings that a stored file may have: FFmpeg takes them as a hint, so that an upload is read as
the same file is by `avfake predict`."""
_TURNING = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upload:
    """A clip on disk. `path`: by a name that the server made; `name`: what the client calls it."""

    path: Path
    name: str
    size: int
    sha256: str


class Gone(Exception):
    """The client has left before the upload was complete."""


async def receive_upload(request: Request, store: Store, folder: Path, most: int) -> Upload:
    """Stream a request's form into `folder`.

    `most`: bytes that the file may have. Raises ApiError: 400 `bad_form`, 408 `too_slow`, 413
    `file_too_large`, 415 `not_a_form`, 422 `wrong_part`; Gone; and OSError where the disk does not
    take it.
    """
    boundary = _boundary(request)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:19]) > most + OVERHEAD:
        raise too_large(most)
    form = _Form(boundary, folder, most)
    try:
        await _feed(request.receive, form, store, most + OVERHEAD)
        return form.finish()
    finally:
        await asyncio.to_thread(form.close)


def too_large(most: int) -> ApiError:
    return ApiError(413, "file_too_large", f"A file may have at most {most} bytes.")


async def _feed(receive: Receive, form: _Form, store: Store, most: int) -> None:
    started = time.monotonic()
    total, more = 0, True
    while more:
        batch = bytearray()
        while more and len(batch) < BATCH:
            try:
                async with asyncio.timeout(SILENCE):
                    message = await receive()
            except TimeoutError:
                raise _slow() from None
            if message["type"] == "http.disconnect":
                raise Gone
            batch += message.get("body", b"")
            more = message.get("more_body", False)
            spent = time.monotonic() - started - SILENCE
            if total + len(batch) < spent * SLOWEST:
                raise _slow()
        total += len(batch)
        if total > most:
            raise too_large(form.most)
        await asyncio.to_thread(_take, form, bytes(batch), store)


def _take(form: _Form, data: bytes, store: Store) -> None:
    if store.room() < len(data):
        raise OSError(errno.ENOSPC, "the disk is full but for the reserve")
    form.feed(data)


def _slow() -> ApiError:
    return ApiError(408, "too_slow", "The upload came too slowly and was given up.")


def _boundary(request: Request) -> bytes:
    kind, parameters = parse_options_header(request.headers.get("content-type"))
    if kind.lower() != b"multipart/form-data":
        raise ApiError(415, "not_a_form", "A file is sent as multipart/form-data.")
    boundary = parameters.get(b"boundary", b"")
    if not boundary:
        raise _bad_form()
    return boundary


class _Form:
    """A form as it comes in: callbacks of the parser, and the file that they fill."""

    def __init__(self, boundary: bytes, folder: Path, most: int) -> None:
        self.most = most
        self._folder = folder
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._parts = 0
        self._name = ""
        self._file: BinaryIO | None = None
        self._path = folder
        self._size = 0
        self._hash = hashlib.sha256()
        self._complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._part_data,
                    "on_end": self._ends,
                },
            )
        except FormParserError:  # the boundary is too long
            raise _bad_form() from None

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            log.debug("bad form: %s", error)
            raise _bad_form() from None

    def finish(self) -> Upload:
        if not self._complete:
            raise _bad_form()
        if self._file is None:
            raise _wrong_part()
        return Upload(self._path, self._name, self._size, self._hash.hexdigest())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > 1:
            raise _wrong_part()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_end(self) -> None:
        _, parameters = parse_options_header(self._disposition)
        if parameters.get(b"name") != b"file":
            raise _wrong_part()
        self._name = shown_name(parameters.get(b"filename", b"").decode(errors="replace"))
        self._path = self._folder / stored_name(self._name)
        self._file = open(self._path, "xb", buffering=0)  # noqa: SIM115

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._size + end - start > self.most:
            raise too_large(self.most)
        part = memoryview(data)[start:end]
        self._hash.update(part)
        assert self._file is not None
        self._size += len(part)
        while part:
            part = part[self._file.write(part) :]

    def _ends(self) -> None:
        self._complete = True


def shown_name(name: str) -> str:
    """A client's name for its file, fit to be shown: no folders, no characters that hide or turn
    others, 200 characters at most."""
    name = re.split(r"[/\\]", name)[-1]
    kept = (c for c in name if unicodedata.category(c) not in _UNSEEN and c not in _TURNING)
    return "".join(kept).strip()[-200:] or "unnamed"


_UNSEEN = ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")


def stored_name(name: str) -> str:
    """The name that the server gives a file: unlike any that people do, with an ending it knows."""
    suffix = Path(name).suffix.lower()
    return "avfake-upload" + (suffix if suffix in _SUFFIXES else "")


def _bad_form() -> ApiError:
    return ApiError(400, "bad_form", "The form is damaged or incomplete.")


def _wrong_part() -> ApiError:
    return ApiError(422, "wrong_part", "The form has exactly one part, a file called 'file'.")
