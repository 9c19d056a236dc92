"""A line is written whole or not at all, by one process at a time, and stays."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from avfake.lines import Lines
from avfake.types import AvfakeError


def written(path: Path, *entries: dict[str, Any]) -> bytes:
    lines = Lines(path)
    for entry in entries:
        lines.add(entry)
    lines.close()
    return path.read_bytes()


def entries(path: Path) -> list[dict[str, Any]]:
    lines = Lines(path)
    try:
        return list(lines.read())
    finally:
        lines.close()


def test_lines_come_back_and_are_added_to(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    written(path, {"a": 1}, {"b": "ü\n\u2028"})
    before = path.read_bytes()
    assert written(path, {"c": None}).startswith(before)
    assert entries(path) == [{"a": 1}, {"b": "ü\n\u2028"}, {"c": None}]


def test_a_last_line_cut_off_anywhere_is_dropped_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    first = len(written(path, {"a": 1}))
    whole = written(path, {"b": {"c": "longer"}})
    for size in range(first, len(whole)):
        path.write_bytes(whole[:size])
        assert entries(path) == [{"a": 1}]
        assert written(path, {"d": 2}) == whole[:first] + b'{"d": 2}\n'


def test_zeros_that_a_power_failure_leaves_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    whole = written(path, {"a": 1})
    path.write_bytes(whole + bytes(5000))
    assert entries(path) == [{"a": 1}]
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "content", [b"no lines", b"text\n", b'{"a": 1}\nhalf', b"[1]\n", b"\xff\xfe\n", b'{"a": 1}\n\n']
)
def test_what_is_something_else_is_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011 - of any kind: its caller knows what it wanted
        entries(path)
    assert path.read_bytes() == content


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = Lines(path)
    lines.add({"a": 1})
    with pytest.raises(AvfakeError, match="Another run") as caught:
        Lines(path)
    assert caught.value.reason == "in_use"
    lines.keep([False])  # also once the file has been replaced
    with pytest.raises(AvfakeError):
        Lines(path)
    lines.close()
    assert entries(path) == []


HOLDER = (
    "import sys, time; from avfake.lines import Lines; l = Lines(sys.argv[1]); l.add({'a': 1}); "
)


def test_a_process_that_is_killed_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    code = HOLDER + "print('held', flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(AvfakeError, match="Another run"):
        Lines(path)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert entries(path) == [{"a": 1}]


def test_lines_are_left_out_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    written(path, {"a": 1}, {"b": 2}, {"c": 3})
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    lines = Lines(link)
    lines.keep([True, False, True])
    lines.add({"d": 4})
    lines.close()
    assert entries(path) == [{"a": 1}, {"c": 3}, {"d": 4}]
    assert link.is_symlink()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.jsonl", "link.jsonl"]


def test_what_a_kill_leaves_of_that_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".a.jsonl.part").write_bytes(b"half")
    written(tmp_path / "a.jsonl", {"a": 1})
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jsonl"]


class FullDisk:
    """A file on a disk that takes half of a line."""

    def __init__(self, file: Any, fault: BaseException) -> None:
        self._file, self._fault = file, fault
        self._full = False

    def write(self, data: Any) -> int:
        if self._full:
            raise self._fault
        self._full = True
        return int(self._file.write(data[: len(data) // 2]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()]
)
def test_a_line_that_cannot_be_written_leaves_nothing(tmp_path: Path, fault: BaseException) -> None:
    path = tmp_path / "a.jsonl"
    whole = written(path, {"a": 1})
    lines = Lines(path)
    file, lines._file = lines._file, FullDisk(lines._file, fault)  # type: ignore[assignment]
    with pytest.raises(AvfakeError if isinstance(fault, OSError) else KeyboardInterrupt) as caught:
        lines.add({"b": "x" * 1000})
    if isinstance(caught.value, AvfakeError):
        assert (caught.value.reason, "the disk is full" in str(caught.value)) == (
            "not_writable",
            True,
        )
    assert path.read_bytes() == whole
    lines._file = file
    lines.add({"b": 2})
    lines.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": 1}, {"b": 2}]


def test_only_a_regular_file_is_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/null"), tmp_path, tmp_path / "nobody" / "a.jsonl"):
        with pytest.raises(AvfakeError) as caught:
            Lines(path)
        assert caught.value.reason == "not_writable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(AvfakeError, match="Permission denied") as caught:
            Lines(tmp_path / "a.jsonl")
    finally:
        tmp_path.chmod(0o755)
    assert caught.value.reason == "not_writable"
