"""The private folder that all files of a run lie in, and the removal of those of dead runs.

A run holds a lock on its folder for as long as it lives, which the system lets go of however the
run ends: a folder that can be locked is a dead run's.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "avfake-serve-"
_UNBORN = ".avfake-serve-"  # before it is locked
RESERVE = 256 << 20
"""Bytes that are left free on the disk, whatever is uploaded."""

log = logging.getLogger(__name__)


class Store:
    """A folder that only this user can look into, for as long as the run lives.

    `parent`: where it is made, None for the system's temporary folder. Folders of dead runs of the
    same user that lie there are removed first.
    """

    def __init__(self, parent: Path | None = None) -> None:
        place = Path(tempfile.gettempdir()) if parent is None else parent
        self.removed = _remove_dead(place)
        unborn = Path(tempfile.mkdtemp(prefix=_UNBORN, dir=place))  # mode 0700
        self._lock = os.open(unborn, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # Locked before it has the name by which others look for dead ones.
        self.folder = unborn.with_name(PREFIX + unborn.name.removeprefix(_UNBORN))
        os.rename(unborn, self.folder)

    def new(self) -> Path:
        """An empty folder for one clip."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def remove(self, folder: Path) -> None:
        """Remove a clip's folder. Safe to call twice."""
        _remove(folder)

    def room(self) -> int:
        """Bytes that may be written before RESERVE is touched."""
        return shutil.disk_usage(self.folder).free - RESERVE

    def close(self) -> None:
        """Remove everything. Safe to call twice."""
        if self._lock >= 0:
            _remove(self.folder)
            os.close(self._lock)
            self._lock = -1


def _remove_dead(place: Path) -> int:
    """Remove what dead runs of this user left; how many there were."""
    count = 0
    for folder in place.glob(f"{PREFIX}*"):
        try:
            # Links are not followed, and nobody else's folder is touched.
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if os.fstat(handle).st_uid == os.getuid():
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)
                count += 1
        except BlockingIOError:
            log.debug("%s belongs to a run that lives", folder)
        finally:
            os.close(handle)
    return count


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        log.error("%s cannot be removed", folder)
