"""The private folder that all files of a run lie in (see `avfake.scratch`)."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

RESERVE = 256 << 20
"""Bytes that are left free on the disk, whatever is uploaded."""

log = logging.getLogger("avfake.serve")


class Store:
    """`folder`: one that nobody else can look into. Each clip has a folder of its own in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new(self) -> Path:
        """An empty folder for one clip."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def remove(self, folder: Path) -> None:
        """Remove a clip's folder. Safe to call twice."""
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            log.error("files of a clip cannot be removed")

    def room(self) -> int:
        """Bytes that may be written before RESERVE is touched."""
        return shutil.disk_usage(self.folder).free - RESERVE
