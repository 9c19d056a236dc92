"""Videos under their names, wherever they lie; nothing is unpacked where an archive says."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from avfake.sources import Sources
from avfake.types import AvfakeError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "videos"
    for name in ("b.mp4", "a.MOV", "deep/er/c.mp4", "notes.txt", "._a.MOV", "__MACOSX/x.mp4"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def content(sources: Sources, name: str) -> bytes:
    path = sources.fetch(sources.find(name))
    try:
        return Path(path).read_bytes()
    finally:
        sources.release(path)


def test_a_folder_is_its_videos_sorted(folder: Path) -> None:
    with Sources([folder]) as sources:
        assert sources.names() == ["a.MOV", "b.mp4", "c.mp4"]
        assert content(sources, "c.mp4") == content(sources, "deep/er/c.mp4") == b"deep/er/c.mp4"
        assert content(sources, "notes.txt") == b"notes.txt"  # where a sample asks for it
    assert (folder / "b.mp4").exists()  # nobody's own files are deleted


def test_globs_files_and_several_of_them(folder: Path) -> None:
    with Sources([str(folder / "*.mp4"), folder / "deep"]) as sources:
        assert sources.names() == ["b.mp4", "c.mp4"]
    with Sources([folder / "b.mp4", folder / "a.MOV"]) as sources:
        assert sources.names() == ["a.MOV", "b.mp4"]


def test_names_that_several_share_need_their_folders(folder: Path) -> None:
    (folder / "deep" / "b.mp4").write_bytes(b"other")
    (folder / "deep" / "er" / "b.mp4").write_bytes(b"third")
    with Sources([folder]) as sources:
        assert "deep/b.mp4" in sources.names()
        assert content(sources, "b.mp4") == b"b.mp4"  # the one that is called so exactly
        assert content(sources, "deep/b.mp4") == b"other"
    with Sources([folder / "deep"]) as sources:
        (folder / "deep" / "b.mp4").unlink()
    with Sources([folder / "deep", folder]) as sources:
        with pytest.raises(AvfakeError) as caught:
            sources.find("er/c.mp4/../b.mp4")
        assert caught.value.reason == "not_found"
        with pytest.raises(AvfakeError) as caught:
            sources.find("c.mp4")
        assert caught.value.reason == "ambiguous"


def test_a_name_finds_its_file_in_either_unicode_form(tmp_path: Path) -> None:
    (tmp_path / "ve\u0301lo.mp4").write_bytes(b"composed of two")
    with Sources([tmp_path]) as sources:
        assert content(sources, "v\u00e9lo.mp4") == b"composed of two"


def test_a_zip_is_unpacked_one_member_at_a_time(tmp_path: Path) -> None:
    path = zipped(tmp_path / "t.zip", {"test/a.mp4": b"A" * 5000, "test/b.mp4": b"B"})
    with Sources([path]) as sources:
        assert sources.names() == ["a.mp4", "b.mp4"]
        video = sources.find("a.mp4")
        unpacked = Path(sources.fetch(video))
        assert unpacked.read_bytes() == b"A" * 5000
        assert [entry.name for entry in unpacked.parent.iterdir()] == [unpacked.name]
        sources.release(str(unpacked))
        assert list(unpacked.parent.iterdir()) == []
    assert not unpacked.parent.exists()


def test_a_zip_cannot_write_where_it_likes(tmp_path: Path) -> None:
    bad = ["../../evil.mp4", "/tmp/avfake-evil.mp4", "..\\evil2.mp4", "c:evil3.mp4"]
    path = zipped(tmp_path / "t.zip", dict.fromkeys(bad, b"evil"))
    before = sorted(tmp_path.rglob("*"))
    with Sources([path]) as sources:
        folders = {Path(sources.fetch(file)).parent for file in sources.files}
        assert len(folders) == 1
        names = {entry.name for entry in next(iter(folders)).iterdir()}
        assert names == {f"{i}.video" for i in range(1, len(bad) + 1)}
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/tmp/avfake-evil.mp4").exists()


def test_a_damaged_member_is_told(tmp_path: Path) -> None:
    path = zipped(tmp_path / "t.zip", {"a.mp4": os.urandom(5000), "b.mp4": b"B"})
    raw = bytearray(path.read_bytes())
    raw[2000:2100] = bytes(100)
    path.write_bytes(raw)
    with Sources([path]) as sources:
        with pytest.raises(AvfakeError, match=r"a\.mp4 cannot be unpacked") as caught:
            sources.fetch(sources.find("a.mp4"))
        assert caught.value.reason == "not_readable"
        assert content(sources, "b.mp4") == b"B"


def test_a_source_that_is_not_there_or_no_zip(tmp_path: Path) -> None:
    (tmp_path / "t.zip").write_bytes(b"no zip")
    for source, reason in (("t.zip", "not_readable"), ("x", "not_found"), ("*.avi", "not_found")):
        with pytest.raises(AvfakeError) as caught:
            Sources([tmp_path / source])
        assert caught.value.reason == reason


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_labels_lie_beside_the_videos(tmp_path: Path, kind: str) -> None:
    entries = {"a.mp4": {"label": "FAKE"}, "b.mp4": {"label": "REAL"}, "c.mp4": {"split": "test"}}
    members = {"t/a.mp4": b"", "t/b.mp4": b"", "t/metadata.json": json.dumps(entries).encode()}
    members["u/metadata.json"] = b"{no json"
    path = zipped(tmp_path / "t.zip", members)
    if kind == "folder":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "all")
        path = tmp_path / "all"
    with Sources([path]) as sources:
        assert sources.labels() == {"t/a.mp4": 1, "t/b.mp4": 0}


def test_labels_that_cannot_be_read_are_no_labels(tmp_path: Path) -> None:
    entries = json.dumps({"a.mp4": {"label": "FAKE"}}).encode()
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:  # not compressed
        archive.writestr("metadata.json", entries)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"FAKE", b"REAL"))  # not what its checksum says
    with Sources([path]) as sources:
        assert sources.labels() == {}
    folder = tmp_path / "all"
    folder.mkdir()
    (folder / "metadata.json").symlink_to("nowhere")
    with Sources([folder]) as sources:
        assert sources.labels() == {}
