"""Temporary folders of which a killed process leaves none for long: the next one removes it."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avfake.lines import hold

_PREFIX = "avfake-"
_LOCK = "lock"


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder for this process alone, removed in the end; those of dead ones go first."""
    _sweep()
    while True:
        with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name:
            lock = Path(name, _LOCK)
            with lock.open("wb") as file:
                # Another process may have swept it away before it was locked.
                if hold(file.fileno()) and lock.exists():
                    folder = Path(name, "files")
                    folder.mkdir()
                    yield folder
                    return


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if not _is_ours(folder):
                continue
            with (folder / _LOCK).open("r+b") as file:
                if hold(file.fileno()):
                    shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can have put anything in there."""
    info = folder.lstat()
    own = not hasattr(os, "getuid") or info.st_uid == os.getuid()
    return own and stat.S_ISDIR(info.st_mode)
