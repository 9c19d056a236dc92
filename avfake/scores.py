"""The rows of a batch: JSON objects, one a line, in a file or in a folder of shards.

A row is `Prediction.to_dict()` and
  size         bytes of the file; null for what is none
  quarantined  whether the file took a worker down or stalled it on every attempt
  settings     what its score depends on besides the file and the models in `bundle`
  member       only for what lies in a zip: its name there; `path` is archive.zip/member
  path_hex     only where the name is not UTF-8: its bytes; `path` then has them as \\xff

Rows are ASCII, so that any JSON parser reads them, and are only ever added; those that are to be
made anew are dropped by replacing the whole file.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from avfake.lines import Lines, writing
from avfake.types import AvfakeError

SHARD = 10_000
"""Rows of one file in a folder."""
_SHARD_NAME = re.compile(r"scores-(\d{5,})\.jsonl")

Row = dict[str, Any]
Name = tuple[str, str | None]
"""The path of a file, and its name in the zip that the path leads into."""
Answer = tuple[str, str | None]
"""Status and reason of a row."""
CLAIMED: Answer = ("claimed", None)


class Scores:
    """The rows that are there, and those to come. Use as a context manager.

    `out`: a file, or a folder (one that is there, or a name that ends in a slash) for shards of
    SHARD rows. `models`: the sha256 of the bundle; `settings`: see above. `resume`: go on with the
    rows that are there; those that `is_stale(name, member, row)` may be dropped.

    Holds some 100 bytes a row, whatever is in it.

    Raises AvfakeError `exists` where there are rows and `resume` is false; `other_run` where they
    are of other models or settings, or something else; `in_use`; `not_writable`.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        models: str,
        settings: Mapping[str, Any],
        resume: bool = False,
        is_stale: Callable[[str, str | None, Row], bool] = lambda name, member, row: False,
    ) -> None:
        self.out = os.fspath(out)
        self._models = models
        self._settings = readable(settings)
        self._real = lru_cache(maxsize=1024)(_real)  # names come folder by folder
        self._known: dict[bytes, Answer] = {}
        self._stale: dict[bytes, int] = {}  # and the number of the file that it is in
        self._number = 0
        self._count = 0  # rows in the file that is being filled
        self._in_folder = self.out.endswith(("/", os.sep)) or os.path.isdir(self.out)
        with writing(Path(self.out)):
            if self._in_folder:
                os.makedirs(self.out, exist_ok=True)
        self._place = Path(os.path.realpath(self.out))
        numbers = self._shards() or [0]
        # The first file is held open all the time: it is what keeps a second run out.
        self._first = self._lines = Lines(self._file(numbers[0]))
        try:
            for number in numbers:
                self._open(number)
                if not (resume or self._lines.is_empty):
                    text = f"{self.out} has rows already: go on with --resume, or choose another."
                    raise AvfakeError("exists", text)
                self._take_over(is_stale)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Scores:
        return self

    def __exit__(self, *fault: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others have the file. Safe to call twice."""
        self._lines.close()
        self._first.close()

    def drop_stale(self, names: Iterable[Name]) -> int:
        """Drop the stale rows of the files that have these names, and tell how many those were."""
        if not self._stale:
            return 0
        named = {self._identity(*name) for name in names} & self._stale.keys()
        last = self._number
        for number in sorted({self._stale[identity] for identity in named}):
            self._open(number)
            self._lines.keep(self._identity(*_name_of(r)) not in named for r in self._lines.read())
        if named:
            self._open(last)
            self._count = sum(1 for _ in self._lines.read())
        for identity in named:
            del self._known[identity]
        self._stale.clear()
        return len(named)

    def claim(self, name: str, member: str | None = None) -> Answer | None:
        """Take a file on: None where it is to be judged, the answer of the row that it has
        already, or CLAIMED where it was taken on before, be it by another path."""
        identity = self._identity(name, member)
        answer = self._known.get(identity)
        self._known[identity] = CLAIMED
        return answer

    def add(self, name: str, member: str | None, row: Mapping[str, Any]) -> None:
        """Add the row of a file; `path`, `member` and `settings` are put in here."""
        if self._in_folder and self._count >= SHARD:
            self._open(self._number + 1)
        path = _named(name, member)
        self._lines.add(readable({**path, **row, **path, "settings": self._settings}))
        self._count += 1

    def holds(self, name: str) -> bool:
        """Whether this is a file of the table itself."""
        folder, base = self._real(os.path.dirname(name)), os.path.basename(name)
        if self._in_folder:
            return folder == str(self._place) and _SHARD_NAME.fullmatch(base) is not None
        return os.path.join(folder, base) == str(self._place)

    def _shards(self) -> list[int]:
        if not self._in_folder:
            return []
        with writing(self._place):
            matches = [_SHARD_NAME.fullmatch(name) for name in os.listdir(self._place)]
        return sorted(int(match[1]) for match in matches if match is not None)

    def _file(self, number: int) -> Path:
        return self._place / f"scores-{number:05d}.jsonl" if self._in_folder else self._place

    def _open(self, number: int) -> None:
        """Go on with another file of the table."""
        self._number, self._count = number, 0
        if self._lines is not self._first:
            self._lines.close()
        path = self._file(number)
        self._lines = self._first if path == self._first.path else Lines(path)

    def _take_over(self, is_stale: Callable[[str, str | None, Row], bool]) -> None:
        """Know the rows of the file that is open."""
        try:
            for row in self._lines.read():
                self._check(row)
                name, member = _name_of(row)
                identity = self._identity(name, member)
                self._known[identity] = _shared(row["status"], row["reason"])
                if is_stale(name, member, row):
                    self._stale[identity] = self._number
                self._count += 1
        except (ValueError, KeyError, TypeError):
            raise self._other("something else", self._lines.path) from None

    def _check(self, row: Row) -> None:
        """Raises AvfakeError for a row of another run; KeyError or TypeError for what is none."""
        if row["bundle"]["sha256"] != self._models:
            raise self._other(f"other models ({row['bundle']['name']} {row['bundle']['version']})")
        theirs = row["settings"]
        for key, value in self._settings.items():
            if theirs[key] != value:
                raise self._other(f"other settings ({key} {theirs[key]} there, {value} now)")

    def _identity(self, name: str, member: str | None) -> bytes:
        """The same for all paths of a file: 16 bytes, of which two in 10^9 files agree with a
        chance of 10^-21. Links to files are files of their own."""
        if member is not None:
            archive = name[: -len(member) - 1]
            text = f"{self._identity(archive, None).hex()}/{member}"
        elif "://" in name:
            text = name
        else:
            text = os.path.join(self._real(os.path.dirname(name)), os.path.basename(name))
        return hashlib.blake2b(_bytes_of(text), digest_size=16).digest()

    def _other(self, what: str, where: str | os.PathLike[str] = "") -> AvfakeError:
        return AvfakeError(
            "other_run", f"{where or self.out} holds rows of {what}: choose another --out."
        )


def readable(value: Any) -> Any:
    """The same for JSON that any parser reads: numbers that are none become null, bytes of a name
    that are not UTF-8 become \\xff."""
    if isinstance(value, str):
        return value if value.isascii() else _bytes_of(value).decode("utf-8", "backslashreplace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: readable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [readable(entry) for entry in value]
    return value


def _bytes_of(name: str) -> bytes:
    return name.encode("utf-8", sys.getfilesystemencodeerrors())


def _named(name: str, member: str | None) -> Row:
    """How a row names its file."""
    named: Row = {"path": name}
    if member is not None:
        named["member"] = member
    if readable(name) != name:
        named["path_hex"] = _bytes_of(name).hex()
    return named


def _name_of(row: Row) -> Name:
    """The path, and the member of a zip, that `_named` was given."""
    name = row["path"]
    if "path_hex" in row:
        raw = bytes.fromhex(row["path_hex"])
        name = raw.decode("utf-8", sys.getfilesystemencodeerrors())
    return name, row.get("member")


def _real(folder: str) -> str:
    try:
        return os.path.realpath(folder)
    except ValueError:  # a zero in it: nothing is called so
        return folder


@lru_cache
def _shared(status: str, reason: str | None) -> Answer:
    """One tuple for all rows that end alike."""
    return status, reason
