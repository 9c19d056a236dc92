"""Where the clips of a manifest lie: below a folder, or inside a zip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avfake.sources import Sources
from avfake.types import AvfakeError


class Media:
    """The files that a manifest's paths name."""

    def __init__(self, root: Path) -> None:
        """Raises AvfakeError `not_found` or `not_readable` where `root` is no folder or zip."""
        if not root.is_dir():
            with Sources([root]):
                pass  # it says what is wrong, before the models are loaded
        self.root = root

    @classmethod
    def of(cls, manifest: Path, root: Path | None) -> Media:
        """Below `root`, or where it is None in the manifest, if that is a folder or zip, or beside
        it. Raises AvfakeError as above."""
        whole = manifest.is_dir() or manifest.suffix.lower() == ".zip"
        return cls(root or (manifest if whole else manifest.parent))

    @contextmanager
    def file(self, path: str) -> Iterator[Path]:
        """The clip's file, which may be missing; from a zip, unpacked as long as it is needed.

        Raises AvfakeError `not_found`, `ambiguous` or `not_readable` where it cannot be unpacked.
        """
        if self.root.is_dir():
            yield self.root / path
            return
        with Sources([self.root]) as archive:
            yield Path(archive.fetch(archive.find(path)))

    def stamps(self, paths: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Path -> (bytes, time of change in ns) of those that are there; a zip's members have the
        time of the zip."""
        found = {}
        if self.root.is_dir():
            for path in paths:
                with suppress(OSError, ValueError):
                    now = (self.root / path).stat()
                    found[path] = (now.st_size, now.st_mtime_ns)
            return found
        changed = self.root.stat().st_mtime_ns
        with Sources([self.root]) as archive:
            for path in paths:
                with suppress(AvfakeError):
                    size = archive.find(path).size
                    if size is not None:
                        found[path] = (size, changed)
        return found
