"""Files of JSON objects, one a line, that only grow: a kill costs at most the line it fell into."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from itertools import compress
from pathlib import Path
from typing import Any

from avfake.types import AvfakeError

log = logging.getLogger(__name__)


class Lines:
    """One such file, opened to be read once and then added to, by one process at a time.

    Raises AvfakeError `not_writable`, or `in_use` where another process has it open so.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Whoever follows a link gets its file, which may be replaced as a whole.
        self.path = Path(os.path.realpath(path))
        self._part = self.path.with_name(f".{self.path.name}.part")
        self._file = self._opened()
        with writing(self._part):
            self._part.unlink(missing_ok=True)  # of a `keep` that was killed

    def close(self) -> None:
        """Close the file, for others to use. Safe to call twice."""
        self._file.close()

    @property
    def is_empty(self) -> bool:
        return os.fstat(self._file.fileno()).st_size == 0

    def read(self) -> Iterator[dict[str, Any]]:
        """What is there, line by line. At the end, half a line that a kill has left is cut off.

        Raises ValueError at what is no JSON object; nothing of such a file is touched.
        """
        whole = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    # After a power failure, zeros may stand where the line should.
                    if not line.startswith(b'{"') and line.strip(b"\0") not in (b"", b"{"):
                        raise ValueError("the last line is not half a JSON object")
                    self._file.truncate(whole)
                    return
                entry = json.loads(line)
                if not isinstance(entry, dict):
                    raise ValueError("a line is no JSON object")
                whole += len(line)
                yield entry

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add a line. It is out of this process's hands when this returns; where it raises (a full
        disk, Ctrl-C), nothing of the line stays."""
        rest = memoryview(json.dumps(entry, allow_nan=False).encode() + b"\n")
        with writing(self.path):
            before = os.fstat(self._file.fileno()).st_size
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
            except BaseException:
                with suppress(OSError):  # half a line is cut off when it is next read, too
                    self._file.truncate(before)
                raise

    def keep(self, wanted: Iterable[object]) -> None:
        """Leave out the lines for which `wanted`, one for each, is false: all at once, or none."""
        with writing(self.path):
            try:
                with self.path.open("rb") as old, self._part.open("wb") as new:
                    new.writelines(compress(old, wanted))
                    new.flush()
                    os.fsync(new.fileno())
                shutil.copymode(self.path, self._part)
                self._file.close()  # Windows replaces no file that is open
                os.replace(self._part, self.path)
            except BaseException:
                with suppress(OSError):
                    self._part.unlink(missing_ok=True)
                raise
        self._file = self._opened()

    def _opened(self) -> FileIO:
        while True:
            with writing(self.path):
                if os.path.lexists(self.path) and not stat.S_ISREG(os.stat(self.path).st_mode):
                    raise AvfakeError(
                        "not_writable", f"{self.path} is no regular file: choose another name."
                    )
                file = FileIO(self.path, "a+")
            try:
                if not hold(file.fileno()):
                    raise AvfakeError("in_use", f"Another run is writing {self.path}.")
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file.fileno()), os.stat(self.path)):
                        return file
            except BaseException:
                file.close()
                raise
            file.close()  # another run has replaced it meanwhile


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Faults of writing `path` as AvfakeError `not_writable`."""
    try:
        yield
    except OSError as error:
        why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
        raise AvfakeError("not_writable", f"{path} cannot be written: {why}.") from None


def hold(descriptor: int) -> bool:
    """Lock an open file against other processes until it is closed, at the latest when this process
    dies; False where another has it."""
    try:
        _lock(descriptor)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:  # some network file systems have no locks
        log.warning("two runs at once would go unnoticed here: %s", error.strerror)
    return True


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        # Locked bytes cannot be read by others: take one that no file reaches.
        os.lseek(descriptor, 1 << 50, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
