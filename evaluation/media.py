"""Where the clips of a manifest lie: below a folder, or inside a zip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avfake.sources import Sources


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
