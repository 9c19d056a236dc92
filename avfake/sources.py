"""Many files under their names: folders, zips, globs, lists and single files, and DFDC's labels.

Nothing is unpacked but one member at a time, into a file whose name the archive has no say in.
"""

from __future__ import annotations

import errno
import glob
import io
import json
import logging
import os
import shutil
import stat
import unicodedata
import zipfile
import zlib
from codecs import BOM_UTF8
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from avfake.limits import DEFAULT_LIMITS
from avfake.scratch import scratch
from avfake.types import AvfakeError

VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm"),
        *(".avi", ".wmv", ".flv", ".mpg", ".mpeg", ".ts"),
    )
)
LABELS = "metadata.json"
_ZIP_FAULTS = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError),
    RuntimeError,  # packed in a way that `zipfile` does not know, or encrypted after all
)
# LZMA is not among them: what is unpacked here could make it hold 4 GB.
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_MOST_LABELS = 256 << 20  # bytes of a metadata.json: DFDC's largest has half a megabyte
_DENSEST = 100  # clips are packed already: a member that unpacks into so much more is a bomb
_SMALL = 256 << 20  # bytes that any member may unpack into
_MOST_LISTED = 64 << 20  # bytes of a zip's list of members, which take up to 0.7 GB of memory
_OPEN_ZIPS = 8  # at a time; to open one again is to read its list of members again
_OPEN_MEMBERS = 500_000  # that all zips but the newest may have together to be held open

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Video:
    """One file, perhaps inside a zip; it need not be a video, nor be there any more.

    `name`: with slashes, below the folder or zip that was given; `path`: the file, or the archive
    that holds it as `member`; `fault`: why it cannot be looked at, where that is known already.
    """

    name: str
    path: str
    member: zipfile.ZipInfo | None = None
    fault: AvfakeError | None = None

    @property
    def shown(self) -> str:
        """What people call it: its path; archive.zip/member for what lies in a zip."""
        return self.path if self.member is None else f"{self.path}/{self.name}"

    @cached_property
    def size(self) -> int | None:
        """Bytes, when this was first asked; None for what is no regular file, or not there."""
        return self.member.file_size if self.member is not None else size_of(self.path)

    @property
    def basename(self) -> str:
        return PurePosixPath(self.name).name

    @property
    def is_video(self) -> bool:
        """Whether it is called like one."""
        return PurePosixPath(self.name).suffix.lower() in VIDEO_SUFFIXES


class Files:
    """All that lies in folders (with their subfolders), zips, globs and single files, then
    `addresses`, and what `listed`, an open binary file, names: one file or address a line.

    Each iteration lists anew and holds no more than one folder's names, so that there may be
    millions. Links to folders are not followed: a stranger's may lead anywhere. What cannot be
    listed is there with its `fault`. Use as a context manager: it keeps archives open and unpacks
    into a temporary folder. Raises AvfakeError `not_found` where a source is not there.
    """

    def __init__(
        self,
        sources: Sequence[str | os.PathLike[str]],
        listed: IO[bytes] | None = None,
        addresses: Sequence[str] = (),
    ) -> None:
        if "" in sources:  # as of a variable that is not set; a Path would make "." of it
            raise AvfakeError("not_found", "An empty name names no folder, zip or file.")
        self._sources = [str(Path(source)) for source in sources]
        self._list = listed
        self._addresses = addresses
        self._open = ExitStack()
        self._archives: OrderedDict[str, _Archive] = OrderedDict()
        self._unpacked: Path | None = None
        self._count = 0
        for source in self._sources:
            if not os.path.lexists(source) and next(_globbed(source), None) is None:
                raise AvfakeError("not_found", f"There is no folder, zip or file {source}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *fault: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the archives and delete what was unpacked. Safe to call twice."""
        while self._archives:
            self._archives.popitem()[1].close()
        self._open.close()

    def __iter__(self) -> Iterator[Video]:
        for source in self._sources:
            for path in [source] if os.path.lexists(source) else _globbed(source):
                try:
                    yield from self._in(path)
                except AvfakeError as fault:
                    yield Video(os.path.basename(path), path, fault=fault)
        yield from (Video(address, address) for address in self._addresses)
        if self._list is not None:
            self._list.seek(0)
            if self._list.read(len(BOM_UTF8)) != BOM_UTF8:  # which Windows' programs begin with
                self._list.seek(0)
            for line in self._list:
                if name := os.fsdecode(line.rstrip(b"\r\n")):
                    yield Video(name, name)

    def fetch(self, video: Video, most: int = DEFAULT_LIMITS.bytes) -> str:
        """A file to read it from; hand it to `release` afterwards.

        Raises AvfakeError `file_too_large` where it would be unpacked into more than `most` bytes,
        `encrypted`, `not_readable` where it cannot be unpacked, `not_writable` where there is no
        room for it.
        """
        if video.member is None:
            return video.path
        if video.member.file_size > most:
            text = f"{video.basename} has {video.member.file_size} bytes, more than {most}."
            raise AvfakeError("file_too_large", text)
        if video.member.file_size > max(_SMALL, _DENSEST * video.member.compress_size):
            text = f"{video.basename} would unpack {_DENSEST}-fold and more, as no clip does."
            raise AvfakeError("file_too_large", text)
        if video.member.flag_bits & 1:
            raise AvfakeError("encrypted", f"{video.basename} is encrypted: unpack it yourself.")
        if video.member.compress_type not in _PACKED:
            text = f"{video.basename} cannot be unpacked: it is packed in a way that is not read."
            raise AvfakeError("not_readable", text)
        if self._unpacked is None:
            self._unpacked = self._open.enter_context(scratch())
        self._count += 1
        path = self._unpacked / f"{self._count}.video"
        try:
            archive = self._archive(video.path).zip
            with archive.open(video.member) as packed, path.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
        except BaseException as error:
            path.unlink(missing_ok=True)
            if not isinstance(error, _ZIP_FAULTS):
                raise
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                text = f"{path.parent} has no room to unpack {video.basename}: the disk is full."
                raise AvfakeError("not_writable", text) from None
            raise AvfakeError(
                "not_readable", f"{video.basename} cannot be unpacked: {error}."
            ) from None
        return str(path)

    def release(self, path: str) -> None:
        """Delete what was unpacked; leave everybody's own files alone."""
        if self._unpacked is not None and os.path.dirname(path) == str(self._unpacked):
            Path(path).unlink(missing_ok=True)

    def size(self, path: str, member: str | None = None) -> int | None:
        """Bytes of a file that a row tells of, as it is now; None for what is not there."""
        if member is None:
            return size_of(path)
        try:
            info = self._archive(path[: -len(member) - 1]).members.get(member)
        except AvfakeError:
            return None
        return None if info is None else info.file_size

    def _in(self, path: str) -> Iterator[Video]:
        """What `path`, which is there, stands for."""
        suffix = os.path.splitext(path)[1].lower()
        if os.path.isdir(path):
            yield from _in_folder(path)
        elif suffix == ".zip" or (not suffix and os.path.isfile(path) and zipfile.is_zipfile(path)):
            yield from self._in_zip(path)
        else:
            yield Video(os.path.basename(path), path)

    def _in_zip(self, path: str) -> Iterator[Video]:
        for name, member in self._archive(path).members.items():
            # A stranger's member may have no name at all, which `is_dir` does not survive.
            if not name.endswith("/") and not _is_apples(name):
                yield Video(name, path, member)

    def _archive(self, path: str) -> _Archive:
        if path not in self._archives:
            if size_of(path) is None:
                raise AvfakeError("not_readable", f"{path} is no zip: it is no regular file.")
            while len(self._archives) >= _OPEN_ZIPS or self._listed() > _OPEN_MEMBERS:
                self._archives.popitem(last=False)[1].close()
            try:
                self._archives[path] = _Archive(path)
            except _ZIP_FAULTS as error:
                raise AvfakeError("not_readable", f"{path} is no zip: {error}.") from None
        self._archives.move_to_end(path)
        return self._archives[path]

    def _listed(self) -> int:
        return sum(len(archive.zip.infolist()) for archive in self._archives.values())


class _Archive:
    """A zip that is held open, and its members by their names.

    Raises AvfakeError `file_too_large` where it lists more than _MOST_LISTED.
    """

    def __init__(self, path: str) -> None:
        with ExitStack() as opened:
            file = opened.enter_context(_Bounded(io.FileIO(path)))
            self.zip = opened.enter_context(zipfile.ZipFile(file))
            self.members = {_member_name(member): member for member in self.zip.infolist()}
            self._opened = opened.pop_all()

    def close(self) -> None:
        self._opened.close()


class _Bounded(io.BufferedReader):
    """A zip's bytes. Of these, `zipfile` asks for the whole list of members at once, and for
    nothing else that is large."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MOST_LISTED:
            text = f"{self.name} lists too many members: more than {_MOST_LISTED >> 20} MB of them."
            raise AvfakeError("file_too_large", text)
        return super().read(size)


class Sources(Files):
    """Files that are asked for by their names; what cannot be listed is left out.

    Raises AvfakeError `not_readable` where a zip that was given is none, `file_too_large` where it
    lists too many members.
    """

    def __init__(self, sources: Sequence[str | os.PathLike[str]]) -> None:
        super().__init__(sources)
        self.files: list[Video] = []
        try:
            for file in self:
                if file.fault is None:
                    self.files.append(file)
                elif not os.path.isdir(file.path):
                    raise file.fault
        except BaseException:
            self.close()
            raise
        self._by_name: dict[str, list[Video]] = defaultdict(list)
        for file in self.files:
            for key in {_key(file.name), _key(file.basename)}:
                self._by_name[key].append(file)

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
            path = self.fetch(file, _MOST_LABELS)
            try:
                if Path(path).stat().st_size > _MOST_LABELS:
                    raise ValueError(f"it is larger than {_MOST_LABELS >> 20} MB")
                content = json.loads(Path(path).read_bytes())
            finally:
                self.release(path)
        except (ValueError, OSError, RecursionError, AvfakeError) as error:
            # Labels only add a log-loss: a submission must not fail for want of them.
            log.warning("%s holds no labels: %s", file.name, error)
            return {}
        return content if isinstance(content, dict) else {}


def size_of(path: str) -> int | None:
    """Bytes of a regular file, None for what is none or is not there."""
    with suppress(OSError, ValueError):  # a name with a zero in it is a ValueError
        info = os.stat(path)
        return info.st_size if stat.S_ISREG(info.st_mode) else None
    return None


def _globbed(source: str) -> Iterator[str]:
    if glob.has_magic(source):
        yield from sorted(glob.iglob(source, recursive=True))


def _in_folder(root: str) -> Iterator[Video]:
    """All that is in a folder: its files, sorted, then what is in its folders."""
    waiting = [(root, "")]
    while waiting:
        folder, below = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted((entry.name, _kind(entry)) for entry in entries)
        except OSError as error:
            text = f"The folder {folder} cannot be listed: {error.strerror}."
            yield Video(below or folder, folder, fault=AvfakeError("not_readable", text))
            continue
        start = "" if folder == os.curdir else os.path.join(folder, "")
        for name, kind in found:
            if kind == "link":
                text = f"{name} is a link to a folder, which is not followed: name it as an input."
                yield Video(below + name, start + name, fault=AvfakeError("not_a_file", text))
            elif kind == "file" and not _is_apples(below + name):
                yield Video(below + name, start + name)
        folders = [name for name, kind in found if kind == "folder"]
        waiting += [(start + name, f"{below}{name}/") for name in reversed(folders)]


def _kind(entry: os.DirEntry[str]) -> str:
    """A "folder", a "link" to one, or a "file": all else, whatever it may be."""
    try:
        if entry.is_dir():
            return "link" if entry.is_symlink() else "folder"
    except OSError:  # a link that leads back to itself
        pass
    return "file"


def _is_apples(name: str) -> bool:
    """The shadow files that macOS puts into zips and onto foreign disks."""
    own = PurePosixPath(name).name
    return "__MACOSX" in name.split("/") or own.startswith("._") or own == ".DS_Store"


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
