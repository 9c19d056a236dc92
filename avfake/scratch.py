"""Temporary folders of which a killed process leaves none for long: the next one removes it."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avfake.lines import hold

_PREFIX = "avfake-"
_LOCK = "avfake.lock"
_ABANDONED = 3600.0  # seconds after which a folder that was never locked is nobody's


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder for this process alone, removed in the end; those of dead ones go first."""
    _sweep()
    while True:
        with (
            tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name,
            locked(Path(name)) as held,
        ):
            if not held:  # another process swept it away before it was locked
                continue
            folder = Path(name, "files")
            folder.mkdir()
            yield folder
            return


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Keep a temporary folder from being swept away as long as this process lives; whether it is
    there and nobody else has it."""
    lock = folder / _LOCK
    with lock.open("wb") as file:
        yield hold(file.fileno()) and lock.exists()


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if not _is_ours(folder):
                continue
            lock = folder / _LOCK
            if not lock.exists():  # its process was killed, or is about to lock it
                if time.time() - folder.stat().st_mtime > _ABANDONED:
                    folder.rmdir()  # if it is empty: else it is somebody else's
                continue
            with lock.open("r+b") as file:
                if hold(file.fileno()):
                    shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can have put anything in there."""
    info = folder.lstat()
    own = not hasattr(os, "getuid") or info.st_uid == os.getuid()
    return own and stat.S_ISDIR(info.st_mode)
