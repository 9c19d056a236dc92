"""Many videos under their names: folders, zips, globs and single files, and DFDC's labels beside.

Nothing is unpacked but one member at a time, into a file whose name the archive has no say in.
"""

from __future__ import annotations

import glob
import json
import logging
import os
import shutil
import tempfile
import unicodedata
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from avfake.types import AvfakeError

VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm"),
        *(".avi", ".wmv", ".flv", ".mpg", ".mpeg", ".ts"),
    )
)
LABELS = "metadata.json"
_ZIP_FAULTS = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError),
    *(RuntimeError, NotImplementedError),  # encrypted, or packed in a way that is not read
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Video:
    """One file that is there, perhaps inside a zip.

    `name`: with slashes, below the folder or zip that was given; `size`: bytes; `path`: the file,
    or the archive that holds it as `member`.
    """

    name: str
    size: int
    path: Path
    member: zipfile.ZipInfo | None = None

    @property
    def basename(self) -> str:
        return PurePosixPath(self.name).name

    @property
    def is_video(self) -> bool:
        """Whether it is called like one."""
        return PurePosixPath(self.name).suffix.lower() in VIDEO_SUFFIXES


class Sources:
    """What lies in folders (with their subfolders), zips, globs and single files.

    Use as a context manager: it keeps archives open and unpacks into a temporary folder. Raises
    AvfakeError `not_found` or `not_readable` where a source is not there or is no readable zip.
    """

    def __init__(self, sources: Sequence[str | os.PathLike[str]]) -> None:
        self._open = ExitStack()
        self._archives: dict[Path, zipfile.ZipFile] = {}
        self._unpacked: Path | None = None
        self._count = 0
        try:
            self.files = [file for source in sources for file in self._listed(os.fspath(source))]
        except BaseException:
            self._open.close()
            raise
        self._by_name: dict[str, list[Video]] = defaultdict(list)
        for file in self.files:
            for key in {_key(file.name), _key(file.basename)}:
                self._by_name[key].append(file)

    def __enter__(self) -> Sources:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def names(self) -> list[str]:
        """What the videos are called, sorted: by their own names, or by their names with folders
        where several share one. Raises AvfakeError `ambiguous` where that is not enough."""
        videos = [file for file in self.files if file.is_video]
        shared = Counter(video.basename for video in videos)
        names = [v.name if shared[v.basename] > 1 else v.basename for v in videos]
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise AvfakeError(
                "ambiguous", f"Two videos are called {twice[0]}: give the folder that holds both."
            )
        return sorted(names)

    def find(self, name: str) -> Video:
        """The file of this name, with or without its folders.

        Raises AvfakeError `not_found`, or `ambiguous` where several share it.
        """
        fitting = self._by_name.get(_key(name), [])
        exact = [file for file in fitting if _key(file.name) == _key(name)]
        fitting = exact or fitting
        if not fitting:
            raise AvfakeError("not_found", f"There is no file {name}.")
        if len(fitting) > 1:
            raise AvfakeError("ambiguous", f"There are {len(fitting)} files called {name}.")
        return fitting[0]

    def fetch(self, video: Video) -> Path:
        """A file to read it from; hand it to `release` afterwards.

        Raises AvfakeError `not_readable` where it cannot be unpacked.
        """
        if video.member is None:
            return video.path
        if self._unpacked is None:
            folder = tempfile.TemporaryDirectory(prefix="avfake-", ignore_cleanup_errors=True)
            self._unpacked = Path(self._open.enter_context(folder))
        self._count += 1
        path = self._unpacked / f"{self._count}.video"
        try:
            with self._archives[video.path].open(video.member) as packed, path.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
        except _ZIP_FAULTS as error:
            path.unlink(missing_ok=True)
            raise AvfakeError(
                "not_readable", f"{video.basename} cannot be unpacked: {error}."
            ) from None
        return path

    def release(self, path: Path) -> None:
        """Delete what was unpacked; leave everybody's own files alone."""
        if path.parent == self._unpacked:
            path.unlink(missing_ok=True)

    def labels(self) -> dict[str, int]:
        """Name -> 1 (fake) or 0 (real), as the `metadata.json` of DFDC beside the videos says."""
        found = {}
        for file in [file for file in self.files if file.basename == LABELS]:
            folder = PurePosixPath(file.name).parent
            for name, entry in self._entries(file).items():
                label = entry.get("label") if isinstance(entry, dict) else None
                if label in ("FAKE", "REAL"):
                    found[str(folder / name)] = int(label == "FAKE")
        return found

    def _entries(self, file: Video) -> dict[str, Any]:
        try:
            path = self.fetch(file)
            content = json.loads(path.read_bytes())
            self.release(path)
        except (ValueError, OSError, AvfakeError) as error:
            # Labels only add a log-loss: a submission must not fail for want of them.
            log.warning("%s holds no labels: %s", file.name, error)
            return {}
        return content if isinstance(content, dict) else {}

    def _listed(self, source: str) -> Iterator[Video]:
        path = Path(source)
        if path.is_dir():
            yield from _in_folder(path)
        elif path.suffix.lower() == ".zip" or (path.is_file() and zipfile.is_zipfile(path)):
            yield from self._in_zip(path)
        elif os.path.lexists(path):
            yield Video(path.name, _size(path), path)
        elif glob.has_magic(source) and (found := sorted(glob.glob(source, recursive=True))):
            for match in found:
                yield from self._listed(match)
        else:
            raise AvfakeError("not_found", f"There is no folder, zip or file {source}.")

    def _in_zip(self, path: Path) -> Iterator[Video]:
        try:
            archive = self._open.enter_context(zipfile.ZipFile(path))
        except FileNotFoundError:
            raise AvfakeError("not_found", f"There is no folder, zip or file {path}.") from None
        except _ZIP_FAULTS as error:
            raise AvfakeError("not_readable", f"{path} is no zip: {error}.") from None
        self._archives[path] = archive
        members = {_member_name(member): member for member in archive.infolist()}
        for name, member in members.items():
            if not member.is_dir() and not _is_apples(name):
                yield Video(name, member.file_size, path, member)


def _in_folder(root: Path) -> Iterator[Video]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            below = path.relative_to(root).as_posix()
            if not _is_apples(below):
                yield Video(below, _size(path), path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a link that leads nowhere: the detector will say so
        return 0


def _is_apples(name: str) -> bool:
    """The shadow files that macOS puts into zips and onto foreign disks."""
    return "__MACOSX" in name.split("/") or PurePosixPath(name).name.startswith("._")


def _member_name(member: zipfile.ZipInfo) -> str:
    """A member's name; many programs write UTF-8 without saying so."""
    if not member.flag_bits & 0x800:
        try:
            return member.filename.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    return member.filename


def _key(name: str) -> str:
    """Names are compared in one Unicode form: file systems and spreadsheets differ in theirs."""
    return unicodedata.normalize("NFC", name)
