"""Pictures and tracks read the same from a folder and from a shard; shards are whole or absent."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.clips import portrait, texture
from training.shards import (
    FAIR,
    FINE,
    Folder,
    Shards,
    encode_jpeg,
    encode_png,
    encode_small_track,
    encode_track,
    read_bytes,
    read_picture,
    read_track,
)


def test_files_lie_where_their_paths_say(tmp_path: Path) -> None:
    writer = Shards(tmp_path).open(12)
    # Empty, less than a tar block, a block exactly, more; and a name that needs a longer header.
    data = {"a.jpg": b"", "b.jpg": b"two", "c.jpg": b"x" * 512, "d" * 150 + ".jpg": b"y" * 1300}
    paths = {name: writer.add(name, content) for name, content in data.items()}
    writer.close()
    for name, path in paths.items():
        assert path.startswith("shards/00012.tar:")
        assert read_bytes(tmp_path, path) == data[name]
    with tarfile.open(tmp_path / "shards/00012.tar") as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar.getmembers()} == data  # type: ignore[union-attr]


def test_a_shard_has_no_name_before_it_is_whole(tmp_path: Path) -> None:
    writer = Shards(tmp_path).open(0)
    writer.add("a.jpg", b"x" * 5000)
    assert not list(tmp_path.glob("shards/*.tar"))
    writer.close()
    assert [path.name for path in tmp_path.glob("shards/*")] == ["00000.tar"]


def test_the_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        writer = Shards(tmp_path / name).open(3)
        writer.add("a.jpg", b"content")
        writer.close()
    one, two = ((tmp_path / name / "shards/00003.tar").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("store", [Folder, Shards])
def test_a_picture_reads_as_it_was(tmp_path: Path, store: type[Folder] | type[Shards]) -> None:
    exact, close = portrait(), texture(90, 120)
    writer = store(tmp_path).open(0)
    png = writer.add("faces/a.png", encode_png(exact))
    jpg = writer.add("faces/b.jpg", encode_jpeg(close, FINE))
    writer.close()
    assert (read_picture(tmp_path, png) == exact).all()
    assert read_picture(tmp_path, jpg).shape == (90, 120, 3)
    assert np.abs(read_picture(tmp_path, jpg).astype(int) - close).mean() < 1.5


@pytest.mark.parametrize("store", [Folder, Shards])
def test_a_track_reads_as_it_was(tmp_path: Path, store: type[Folder] | type[Shards]) -> None:
    faces = np.stack([texture(144, 144, seed)[..., 0] for seed in range(5)])
    sound = np.sin(np.arange(5 * 640) / 9).astype(np.float32)
    writer = store(tmp_path).open(0)
    exact = writer.add("tracks/a.npz", encode_track(list(faces), sound))
    coded = [encode_jpeg(face, FAIR) for face in faces]
    small = writer.add("tracks/b.npz", encode_small_track(coded, sound))
    writer.close()
    same, heard = read_track(tmp_path, exact)
    assert (same == faces).all()
    assert (heard == sound).all()
    alike, nearly = read_track(tmp_path, small)
    assert (alike.shape, alike.dtype) == (faces.shape, np.uint8)
    assert np.abs(alike.astype(int) - faces).mean() < 2
    assert nearly.dtype == np.float32
    assert nearly == pytest.approx(sound, abs=1 / 32767)


def test_what_is_missing_or_cut_short_is_told(tmp_path: Path) -> None:
    writer = Shards(tmp_path).open(0)
    path = writer.add("a.jpg", b"no picture" * 300)
    writer.close()
    with pytest.raises(FileNotFoundError, match="cannot read the picture"):
        read_picture(tmp_path, path)
    shard = tmp_path / "shards/00000.tar"
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(FileNotFoundError, match=r"00000.tar ends before byte"):
        read_bytes(tmp_path, path)
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path, "faces/none.png")
