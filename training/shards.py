"""Where prepared pictures and tracks lie: as files in a folder, or many together in tar shards.

A row of faces.csv or tracks.csv names its file in the column `path`, below the prepared folder:

    faces/talking-grid-bbaf2n-mpg-0-0000.png      a file of its own
    shards/00012.tar:51712:18213                  bytes 51712 to 51712 + 18213 of a shard

`read_picture` and `read_track` take either. Shards are plain tar files: any tar reads them too.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

IN_SHARD = re.compile(r"(.+\.tar):(\d+):(\d+)")
FINE, FAIR = 95, 85
"""JPEG qualities: of face pictures (a third of a PNG's bytes), and of the many pictures of tracks,
which show how lips move and need not show traces of forgery."""


def read_bytes(root: Path, path: str) -> bytes:
    """What `path` of an index below `root` holds.

    Raises FileNotFoundError where it is missing or cut short.
    """
    place = IN_SHARD.fullmatch(path)
    file, offset, size = (place[1], int(place[2]), int(place[3])) if place else (path, 0, -1)
    with (root / file).open("rb") as opened:
        opened.seek(offset)
        data = opened.read(size)
    if place and len(data) != size:
        raise FileNotFoundError(f"{root / file} ends before byte {offset + size}")
    return data


def read_picture(root: Path, path: str) -> np.ndarray:
    """The picture `path` of an index below `root`: uint8 RGB [H, W, 3].

    Raises FileNotFoundError when it is missing or no picture.
    """
    data = np.frombuffer(read_bytes(root, path), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None
    if picture is None:
        raise FileNotFoundError(f"cannot read the picture {root / path}")
    return picture


def read_track(root: Path, path: str) -> tuple[np.ndarray, np.ndarray]:
    """The track `path` of an index below `root`.

    Returns faces uint8 [T, S, S], grey at 25 pictures/s, and sound float32 [T * 640] in [-1, 1].
    Raises FileNotFoundError when it is missing.
    """
    with np.load(io.BytesIO(read_bytes(root, path)), allow_pickle=False) as file:
        if "faces" in file:
            return file["faces"], file["sound"]
        ends, coded = file["ends"], file["coded"]
        starts = np.concatenate([[0], ends[:-1]])
        pictures = []
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            picture = cv2.imdecode(coded[start:end], cv2.IMREAD_GRAYSCALE)
            if picture is None:
                raise FileNotFoundError(f"cannot read the track {root / path}")
            pictures.append(picture)
        return np.stack(pictures), file["sound"].astype(np.float32) / 32767


def encode_png(picture: np.ndarray) -> bytes:
    """`picture` uint8 RGB [H, W, 3], exact."""
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def encode_jpeg(picture: np.ndarray, quality: int) -> bytes:
    """`picture` uint8 RGB [H, W, 3] or grey [H, W]. Colour at full size: forgeries show in it."""
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling]
    return cv2.imencode(".jpg", picture, options)[1].tobytes()


def encode_track(faces: Sequence[np.ndarray], sound: np.ndarray) -> bytes:
    """Faces uint8 [S, S] each and sound float32 [n] as an npz, exact."""
    file = io.BytesIO()
    np.savez(file, faces=np.array(faces, np.uint8), sound=sound)
    return file.getvalue()


def encode_small_track(coded: Sequence[bytes], sound: np.ndarray) -> bytes:
    """Faces as JPEG each and sound float32 [n] in [-1, 1] as an npz, a quarter of the exact one."""
    file = io.BytesIO()
    np.savez(
        file,
        coded=np.frombuffer(b"".join(coded), np.uint8),
        ends=np.cumsum([len(picture) for picture in coded]),
        sound=np.rint(np.clip(sound, -1, 1) * 32767).astype(np.int16),
    )
    return file.getvalue()


@dataclass(frozen=True)
class Folder:
    """Stores every file by itself below `root`.

    `open` gives what takes the files of one batch of clips: `add` stores one and returns the `path`
    to read it by; they count once `close` has returned.
    """

    root: Path

    def open(self, number: int) -> FolderWriter:
        return FolderWriter(self.root)


@dataclass(frozen=True)
class Shards:
    """Stores the files of batch `number` in `root`/shards/`number`.tar, as `Folder` does."""

    root: Path

    def open(self, number: int) -> ShardWriter:
        return ShardWriter(self.root, f"shards/{number:05d}.tar")


@dataclass(frozen=True)
class FolderWriter:
    root: Path

    def add(self, name: str, data: bytes) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return name

    def close(self) -> None:
        """Nothing: every file is there already."""


def part_of(path: Path) -> Path:
    """What `path` is called until it is whole: a name that no other worker has, on any machine, for
    one of a run that was killed may still be at the same file.
    """
    return path.with_suffix(f".{secrets.token_hex(8)}.part")


class ShardWriter:
    """A tar that gets its name only when it is whole. The same files make the same bytes."""

    def __init__(self, root: Path, name: str) -> None:
        self._path, self._name = root / name, name
        self._part = part_of(self._path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("wb")
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.GNU_FORMAT)

    def add(self, name: str, data: bytes) -> str:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))
        padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return f"{self._name}:{self._file.tell() - padded}:{len(data)}"

    def close(self) -> None:
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self._path)
