"""Videos under their names, wherever they lie; nothing is unpacked where an archive says."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import psutil
import pytest

import avfake.sources
from avfake.lines import hold
from avfake.scratch import scratch
from avfake.sources import Files, Sources
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


# Files, one after another


def shown(*sources: object, listed: bytes | None = None) -> list[str]:
    """The names of all; those that cannot be listed with the reason."""
    with Files([str(s) for s in sources], None if listed is None else io.BytesIO(listed)) as files:
        first = [f"{f.shown}{f' {f.fault.reason}' if f.fault else ''}" for f in files]
        assert len(list(files)) == len(first)  # they can be listed again
        return first


def test_all_in_a_folder_is_listed_whatever_it_is_called(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    (folder / "inner.zip").write_bytes(b"no zip")
    os.mkfifo(folder / "fifo")
    (folder / ".DS_Store").touch()
    expected = ["a.MOV", "b.mp4", "fifo", "inner.zip", "notes.txt", "deep/er/c.mp4"]
    assert shown("videos") == shown("./videos/") == [f"videos/{name}" for name in expected]
    monkeypatch.chdir(folder)
    assert shown(".") == expected


def test_links_to_folders_are_told_and_not_followed(folder: Path) -> None:
    (folder / "deep" / "up").symlink_to("..")
    (folder / "deep" / "loop").symlink_to("loop")
    (folder / "deep" / "link.mp4").symlink_to("../b.mp4")
    found = shown(folder / "deep")
    assert found == [
        *(f"{folder}/deep/{name}" for name in ("link.mp4", "loop", "up not_a_file", "er/c.mp4"))
    ]
    assert f"{folder}/deep/up/b.mp4" in shown(folder / "deep" / "up")  # it was asked for
    with Sources([folder / "deep"]) as sources:
        assert sources.names() == ["c.mp4", "link.mp4"]


def test_a_folder_that_cannot_be_listed_has_a_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def locked(path: str) -> Any:
        if path.endswith("er"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", locked)
    with Files([folder]) as files:
        faults = {file.shown: str(file.fault) for file in files if file.fault is not None}
    text = f"The folder {folder}/deep/er cannot be listed: Permission denied."
    assert faults == {f"{folder}/deep/er": text}
    with Sources([folder]) as sources:  # where names are asked for, it is not missed
        assert sources.names() == ["a.MOV", "b.mp4"]


def test_folders_may_be_as_deep_as_the_system_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = ["/".join("d" * depth) for depth in range(1, 1500)]
    for name in folders:
        os.mkdir(name)
    Path(folders[-1], "a.mp4").touch()
    try:
        assert shown("d") == [f"{folders[-1]}/a.mp4"]
    finally:  # deeper than what would tidy up can go
        os.unlink(f"{folders[-1]}/a.mp4")
        for name in reversed(folders):
            os.rmdir(name)


def test_a_list_names_files_as_they_are(tmp_path: Path) -> None:
    listed = b"a.mp4\r\n\nno such *.mp4\nclip\xff.mp4\n x.zip"
    names = ["a.mp4", "no such *.mp4", os.fsdecode(b"clip\xff.mp4"), " x.zip"]
    assert shown(listed=listed) == names


def test_a_list_may_begin_with_a_mark_of_its_encoding() -> None:
    """As Windows' programs write it; a file's name does not begin so."""
    for text in ("\ufeffa.mp4\r\nb.mp4\r\n", "a.mp4\nb.mp4", "\ufeff", "a"):
        names = text.lstrip("\ufeff").split()
        assert shown(listed=text.encode()) == names


def test_an_empty_name_is_not_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a shell's variable that is not set."""
    monkeypatch.chdir(folder)
    for sources in ([""], [".", ""]):
        with pytest.raises(AvfakeError, match="empty name") as caught:
            Files(sources)
        assert caught.value.reason == "not_found"


def test_a_zip_that_is_none_is_told_among_others(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no zip")
    os.mkfifo(tmp_path / "b.zip")
    zipped(tmp_path / "c.zip", {"x.mp4": b"X", "y/z": b"Z", "__MACOSX/x": b""})
    zipped(tmp_path / "d.zip", {"u.mp4": b"U"})
    # A name that claims to be UTF-8 and is not.
    raw = zipped(tmp_path / "e.zip", {"\u00fc.mp4": b"X"}).read_bytes()
    (tmp_path / "e.zip").write_bytes(raw.replace("\u00fc".encode(), b"\xff\xff"))
    assert shown(tmp_path / "*.zip") == [
        f"{tmp_path}/a.zip not_readable",
        f"{tmp_path}/b.zip not_readable",
        f"{tmp_path}/c.zip/x.mp4",
        f"{tmp_path}/c.zip/y/z",
        f"{tmp_path}/d.zip/u.mp4",
        f"{tmp_path}/e.zip not_readable",
    ]


@pytest.mark.parametrize(
    ("method", "readable"),
    [
        (zipfile.ZIP_STORED, True),
        (zipfile.ZIP_DEFLATED, True),
        (zipfile.ZIP_BZIP2, True),
        (zipfile.ZIP_LZMA, False),
    ],
)
def test_what_is_packed_badly_or_oddly_costs_its_own_member(
    tmp_path: Path, method: int, readable: bool
) -> None:
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.mp4", b"film" * 500)
        archive.writestr("b.mp4", b"film" * 500)
    raw = bytearray(path.read_bytes())
    at = 30 + len("a.mp4")
    raw[at : at + 9] = b"\xff" * 9  # of the first member's content
    path.write_bytes(raw)
    with Files([path]) as files:
        broken, whole = files
        with pytest.raises(AvfakeError, match=r"^a\.mp4 cannot be unpacked: ") as caught:
            files.fetch(broken)
        assert caught.value.reason == "not_readable"
        if readable:
            assert Path(files.fetch(whole)).read_bytes() == b"film" * 500
        else:
            with pytest.raises(AvfakeError, match="packed in a way that is not read"):
                files.fetch(whole)


def test_an_encrypted_member_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.mp4", b"film")
    raw = bytearray(path.read_bytes())
    for at in (6, raw.index(b"PK\x01\x02") + 8):  # the flags, where it lies and where it is listed
        raw[at] |= 1
    path.write_bytes(raw)
    with Files([path]) as files:
        (video,) = files
        with pytest.raises(AvfakeError, match=r"^a\.mp4 is encrypted") as caught:
            files.fetch(video)
    assert caught.value.reason == "encrypted"


def test_a_member_without_a_name_is_a_file_like_any_other(tmp_path: Path) -> None:
    path = zipped(tmp_path / "t.zip", {"@@@": b"X"})
    path.write_bytes(path.read_bytes().replace(b"@@@", b"\0@@"))  # a name ends at its first zero
    with Files([path]) as files:
        (nameless,) = files
        assert nameless.shown == f"{path}/"
        assert Path(files.fetch(nameless)).read_bytes() == b"X"


def test_a_film_with_a_zip_behind_it_is_a_film(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(zipped(tmp_path / "t.zip", {"x": b"X"}).read_bytes())
    assert shown(tmp_path / "a.mp4") == [f"{tmp_path}/a.mp4"]


def test_few_of_many_zips_are_open_at_a_time(tmp_path: Path) -> None:
    for number in range(30):
        zipped(tmp_path / f"{number:02d}.zip", {"a.mp4": b"%d" % number})
    with Files([tmp_path / "*.zip"]) as files:
        videos = list(files)
        for number in (0, 29, 0):
            unpacked = files.fetch(videos[number])
            assert Path(unpacked).read_bytes() == b"%d" % number
            files.release(unpacked)
        held = [file.path for file in psutil.Process().open_files()]
        assert 0 < sum(name.endswith(".zip") for name in held) <= 8


def listing(path: Path, count: int, empty: int = 0) -> Path:
    """A zip that lists so many members, none of which it holds, behind so many zeros, which it says
    are of the list."""
    with path.open("wb") as file:
        file.truncate(empty)  # a hole, which takes no room
        file.seek(empty)
        for number in range(count):
            name = b"%d" % number
            facts = b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0
            file.write(struct.pack("<4s6H3L5H2L", *facts) + name)
        size = file.tell()
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, 0))
        file.write(struct.pack("<4sLQL", b"PK\6\7", 0, size, 1))
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0))
    return path


def test_a_zip_may_not_list_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it does, or says so of what is no list at all."""
    monkeypatch.setattr(avfake.sources, "_MOST_LISTED", 100_000)
    few, many = listing(tmp_path / "few.zip", 1000), listing(tmp_path / "many.zip", 3000)
    lying = listing(tmp_path / "lying.zip", 1, empty=8 << 30)
    with Files([few, many, lying]) as files:
        listed = list(files)
        assert [video.shown for video in listed[:-2]] == [f"{few}/{n}" for n in range(1000)]
        for path, video in zip((many, lying), listed[-2:], strict=True):
            assert (video.path, video.fault and video.fault.reason) == (str(path), "file_too_large")
            assert str(video.fault) == f"{path} lists too many members: more than 0 MB of them."
        held = [file.path for file in psutil.Process().open_files()]
        assert [name for name in held if name.endswith(".zip")] == [str(few)]


def test_zips_that_list_much_are_not_held_open_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(avfake.sources, "_OPEN_MEMBERS", 25)
    for number in range(6):
        listing(tmp_path / f"{number}.zip", 10)
    with Files([tmp_path / "*.zip"]) as files:
        assert len(list(files)) == 60
        held = [file.path for file in psutil.Process().open_files()]
        assert sum(name.endswith(".zip") for name in held) == 3


def test_sizes_as_they_are_now(tmp_path: Path) -> None:
    path = zipped(tmp_path / "t.zip", {"a/b.mp4": b"12345"})
    with Files([path]) as files:
        assert files.size(f"{path}/a/b.mp4", "a/b.mp4") == 5
        assert files.size(f"{path}/c.mp4", "c.mp4") is None
        assert files.size(f"{tmp_path}/u.zip/c.mp4", "c.mp4") is None
        assert files.size(str(path)) == path.stat().st_size
        assert files.size(str(tmp_path)) is None


# What is unpacked


def test_what_a_killed_process_has_unpacked_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = """
import os, signal, sys
from avfake.scratch import scratch
with scratch() as folder:
    (folder / "1.video").write_bytes(b"film")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)})
    (killed,) = tmp_path.iterdir()
    (tmp_path / "avfake-not-ours").mkdir()  # without a lock: somebody else's
    with scratch() as one:
        assert not killed.exists()
        descriptor = os.open(one.parent, os.O_RDONLY)
        assert not hold(descriptor)  # nor does systemd sweep it away
        os.close(descriptor)
        with scratch() as other:
            assert one.exists()
            assert other != one
    assert [path.name for path in tmp_path.iterdir()] == ["avfake-not-ours"]


def test_labels_that_are_nested_without_end_are_no_labels(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "metadata.json").write_text("[" * 100_000)
    with Sources([tmp_path]) as sources:
        assert sources.labels() == {}


def test_a_zip_of_next_to_nothing_does_not_fill_the_disk(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("zeros.mp4", "w", force_zip64=True) as member:
            for _ in range(300):
                member.write(bytes(1 << 20))
        archive.writestr("black.avi", bytes(10 << 20))
    with Files([bomb]) as files:
        zeros, black = list(files)
        with pytest.raises(AvfakeError, match="100-fold") as refusal:
            files.fetch(zeros)
        assert refusal.value.reason == "file_too_large"
        assert Path(files.fetch(black)).stat().st_size == 10 << 20


def test_a_folder_that_its_process_never_locked_is_removed_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fresh, old = tmp_path / "avfake-fresh", tmp_path / "avfake-old"
    for folder in (fresh, old):
        folder.mkdir()
    os.utime(old, (0, 0))
    with scratch():
        assert fresh.exists()
        assert not old.exists()


def test_folders_of_others_stay_whatever_they_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As this program's own source is called where it was unpacked: avfake-main."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name, file in (("avfake-main", "README.md"), ("avfake-flat", "lock")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("precious")
        os.utime(tmp_path / name, (0, 0))
    with scratch():
        pass
    assert {path.read_text() for path in tmp_path.glob("*/*")} == {"precious"}
    assert len(list(tmp_path.glob("*/*"))) == 2


def test_without_a_folder_to_unpack_into_the_run_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "t.zip", {"a.mp4": b"A"})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with Files([path]) as files:
        (video,) = files
        with pytest.raises(AvfakeError, match="no temporary folder") as caught:
            files.fetch(video)
    assert caught.value.reason == "not_writable"
