"""How many frames an MP4 claims, before FFmpeg makes room for them.

FFmpeg's index has an entry for each frame that a table promises; where all frames have one size, or
in a fragment, a few bytes promise as many as they like: 1.6 kB of file take 6 GB. Read here are the
heads of the boxes (ISO/IEC 14496-12) and two numbers; nothing else is understood or believed.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Any

from avfake.types import AvfakeError

FIRST = (b"ftyp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"styp", b"sidx", b"pnot")
NESTED = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")
DEEPEST = 16  # boxes in one another; FFmpeg takes ten
MOST_BOXES = 50_000  # that are looked at: a day in fragments of ten seconds
FRAMES_ALWAYS = 1_000_000  # claims that are not doubted: 24 MB of index


def check_claims(file: Any, name: str) -> None:
    """Raise AvfakeError `not_media` for an MP4 whose index claims more frames than it has bytes.

    Anything else, an MP4 of damaged structure too, is left to FFmpeg. `file` is left where it was.
    """
    place = file.tell()
    try:
        size = file.seek(0, os.SEEK_END)
        _Claims(file, max(FRAMES_ALWAYS, size), name).look(0, size)
    finally:
        file.seek(place)


@dataclass
class _Track:
    """What the tables of one track say: enough to know how FFmpeg will count its frames."""

    is_sound: bool = False
    frames: int = 0  # of one size
    steady: bool = False  # each lasts one tick, as PCM does: FFmpeg then counts chunks

    @property
    def claim(self) -> int:
        return 0 if self.is_sound and self.steady else self.frames


class _Claims:
    def __init__(self, file: Any, most: int, name: str) -> None:
        self._file = file
        self._most = most
        self._name = name
        self._boxes = 0
        self._in_fragments = 0
        self._track = _Track()

    def look(self, start: int, end: int, depth: int = 0) -> None:
        """Go through the boxes from `start` to `end`."""
        while start + 8 <= end and depth < DEEPEST and self._boxes < MOST_BOXES:
            self._boxes += 1
            head = self._read(start, 16)
            size, kind, payload = int.from_bytes(head[:4]), head[4:8], start + 8
            if start == 0 and kind not in FIRST:
                return
            if size == 1:
                size, payload = int.from_bytes(head[8:16]), start + 16
            elif size == 0:  # the last one: to the end
                size = end - start
            if size < payload - start:
                return
            if kind in NESTED:
                self.look(payload, min(start + size, end), depth + 1)
            self._take(kind, payload)
            start += size

    def _take(self, kind: bytes, start: int) -> None:
        if kind == b"hdlr":
            self._track.is_sound = self._read(start, 12)[8:] == b"soun"
        elif kind == b"stts":
            _, entries, _, ticks = self._numbers(start, 4)
            self._track.steady = entries == 1 and ticks == 1
        elif kind == b"stsz":
            _, one_size, count = self._numbers(start, 3)
            self._track.frames = count if one_size else 0
        elif kind == b"trun":
            self._in_fragments += self._numbers(start, 2)[1]
            self._check(self._in_fragments)
        elif kind == b"trak":
            self._check(self._track.claim)
            self._track = _Track()

    def _check(self, frames: int) -> None:
        if frames > self._most:
            raise AvfakeError(
                "not_media",
                f"{self._name} is damaged: its index claims {frames} frames, more than it has "
                "bytes.",
            )

    def _numbers(self, place: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f">{count}I", self._read(place, 4 * count))

    def _read(self, place: int, count: int) -> bytes:
        self._file.seek(place)
        return bytes(self._file.read(count)).ljust(count, b"\0")
