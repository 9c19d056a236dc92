"""Temporary folders of which a killed process leaves none for long: the next one removes it."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from avfake.lines import hold
from avfake.types import AvfakeError

_PREFIX = "avfake-"
_MARK = "avfake.scratch"  # in folders that may be swept away: others may be called as they are
_ABANDONED = 3600.0  # seconds after which a folder that was never marked is nobody's


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder for this process alone, removed in the end; those of dead ones go first.

    Raises AvfakeError `not_writable` where none can be made.
    """
    with ExitStack() as stack:
        try:
            folder = _made(stack)
        except OSError as error:
            text = f"There is no temporary folder to be had: {error.strerror}."
            raise AvfakeError("not_writable", text) from None
        yield folder


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Keep a temporary folder as long as this process lives, from us and from systemd, which sweeps
    what is old and not locked out of /tmp; whether it is there and nobody else has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        mark = folder / _MARK
        mark.touch()
        yield hold(descriptor) and mark.exists()
    finally:
        os.close(descriptor)


def _made(stack: ExitStack) -> Path:
    _sweep()
    while True:
        with ExitStack() as attempt:
            name = attempt.enter_context(
                tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
            )
            if not attempt.enter_context(locked(Path(name))):
                continue  # another process swept it away before it was locked
            folder = Path(name, "files")
            folder.mkdir()
            stack.enter_context(attempt.pop_all())
            return folder


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if not _is_ours(folder):
                continue
            if not (folder / _MARK).exists():  # its process was killed, or is about to mark it
                if time.time() - folder.stat().st_mtime > _ABANDONED:
                    folder.rmdir()  # if it is empty: else it is somebody else's
                continue
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                if hold(descriptor):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can have put anything in there."""
    info = folder.lstat()
    own = not hasattr(os, "getuid") or info.st_uid == os.getuid()
    return own and stat.S_ISDIR(info.st_mode)
