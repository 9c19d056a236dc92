"""Rows that any parser reads, found again under whatever path; none lost, none twice."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from avfake import scores as module
from avfake.scores import CLAIMED, Scores
from avfake.types import AvfakeError

SETTINGS = {"face_model": None, "max_seconds": 3600.0}


def row(status: str = "ok", reason: str | None = None, **more: Any) -> dict[str, Any]:
    bundle = {"name": "some", "version": "1", "sha256": "models"}
    return {"status": status, "reason": reason, "bundle": bundle, "size": 3, **more}


def table(out: str | Path, resume: bool = True, **more: Any) -> Scores:
    return Scores(out, **({"models": "models", "settings": SETTINGS} | more), resume=resume)


def filled(out: str | Path, names: Sequence[str], **more: Any) -> None:
    with table(out) as scores:
        for name in names:
            scores.add(name, None, row(**more))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


# Names


ODD = [
    "a b.mp4",
    "-x.mp4",
    "ü/视频.mp4",
    "new\nline.mp4",
    "quo\"te'.mp4",
    "back\\xff.mp4",
    "😀.mp4",
]
NOT_UTF8 = [os.fsdecode(b"clip\xff.mp4"), os.fsdecode(b"\xc3(/\x80.mp4")]


def test_any_name_is_json_for_everyone_and_found_again(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    filled(out, ODD + NOT_UTF8)
    frame = pd.read_json(out, lines=True)
    assert list(frame["path"])[: len(ODD)] == ODD
    assert list(frame["path"])[len(ODD) :] == [r"clip\xff.mp4", r"\xc3(/\x80.mp4"]
    assert [bytes.fromhex(raw) for raw in frame["path_hex"].dropna()] == [
        os.fsencode(name) for name in NOT_UTF8
    ]
    with table(out) as scores:
        assert {scores.claim(name) for name in ODD + NOT_UTF8} == {("ok", None)}
        assert scores.claim(r"clip\xff.mp4") is None  # a file that is really called so


def test_text_and_numbers_that_are_none_stay_readable(tmp_path: Path) -> None:
    media = {"fps": float("inf"), "duration": float("nan"), "video_codec": "\udcff"}
    filled(tmp_path / "s.jsonl", ["a.mp4"], message=f"{NOT_UTF8[0]} is bad.", media=media)
    (only,) = rows(tmp_path / "s.jsonl")
    assert only["message"] == r"clip\xff.mp4 is bad."
    assert only["media"] == {"fps": None, "duration": None, "video_codec": r"\xff"}


def test_a_file_is_claimed_once_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "link").symlink_to("clips")
    monkeypatch.chdir(tmp_path)
    names = ["clips/a.mp4", "./clips/a.mp4", "link/a.mp4", f"{tmp_path}/clips/../link//a.mp4"]
    for first in names:
        (tmp_path / "s.jsonl").unlink(missing_ok=True)
        filled("s.jsonl", [first])
        with table("s.jsonl") as scores:
            expected = [("ok", None), *[CLAIMED] * 3]
            assert [scores.claim(name) for name in names] == expected
    with table(tmp_path / "t.jsonl") as scores:
        assert [scores.claim(name) for name in names] == [None, *[CLAIMED] * 3]
        # Another file, though it leads to the same.
        assert scores.claim("clips/b.mp4") is None


def test_what_lies_in_a_zip_is_known_by_the_name_it_has_there(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    members = ["a.mp4", "x/../a.mp4", "../a.mp4"]
    with table(out) as scores:
        for member in members:
            scores.add(f"t.zip/{member}", member, row())
    assert [entry["member"] for entry in rows(out)] == members
    with table(out) as scores:
        for member in members:
            assert scores.claim(f"./t.zip/{member}", member) == ("ok", None)
        assert scores.claim("a.mp4") is None


# Going on


def test_rows_that_are_there_are_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    with table(out, resume=False):
        pass
    with table(out, resume=False) as scores:  # nothing was written yet
        scores.add("a.mp4", None, row())
    before = out.read_bytes()
    with pytest.raises(AvfakeError, match="--resume") as caught:
        table(out, resume=False)
    assert caught.value.reason == "exists"
    assert out.read_bytes() == before


def test_a_row_that_a_kill_cut_off_is_made_again(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    filled(out, ["a.mp4", "b.mp4"])
    whole = out.read_bytes()
    for cut in (1, 2, len(whole) // 4, len(whole.splitlines()[1])):
        out.write_bytes(whole[:-cut])
        with table(out) as scores:
            assert scores.claim("a.mp4") == ("ok", None)
            assert scores.claim("b.mp4") is None
            scores.add("b.mp4", None, row())
        assert out.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"models": "others"}, "other models (some 1)"),
        ({"settings": SETTINGS | {"max_seconds": 5.0}}, "max_seconds 3600.0 there, 5.0 now"),
        ({"settings": SETTINGS | {"more": 1}}, "something else"),
    ],
)
def test_rows_of_another_run_are_not_mixed_in(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    out = tmp_path / "s.jsonl"
    filled(out, ["a.mp4"])
    with pytest.raises(AvfakeError) as caught:
        table(out, **change)
    assert caught.value.reason == "other_run"
    assert words in str(caught.value)
    filled(out, ["b.mp4"])  # the lock is off again
    assert len(rows(out)) == 2


def test_a_limit_that_json_cannot_hold_is_the_same_limit(tmp_path: Path) -> None:
    settings = {"max_seconds": float("inf")}
    for name in ("a.mp4", "b.mp4"):
        with table(tmp_path / "s.jsonl", settings=settings) as scores:
            scores.add(name, None, row())
    assert [entry["settings"] for entry in rows(tmp_path / "s.jsonl")] == [
        {"max_seconds": None}
    ] * 2


@pytest.mark.parametrize("content", [b"a film\n", b"{}\n", b'{"path": "a"}\n', b"\0\0\xff"])
def test_a_file_that_is_no_table_is_not_touched(tmp_path: Path, content: bytes) -> None:
    out = tmp_path / "film.mp4"
    out.write_bytes(content)
    with pytest.raises(AvfakeError) as caught:
        table(out)
    assert caught.value.reason == "other_run"
    assert out.read_bytes() == content


def test_stale_rows_go_only_where_their_files_are_judged_again(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    with table(out) as scores:
        for name in ("a", "bad", "b", "worse"):
            scores.add(name, None, row("error" if "a" not in name[:1] and len(name) > 1 else "ok"))
    stale = {"is_stale": lambda name, member, row: row["status"] == "error"}
    with table(out, **stale) as scores:
        assert scores.drop_stale([("a", None), ("bad", None), ("new", None)]) == 1
        assert [scores.claim(name) for name in ("a", "bad", "worse")] == [
            ("ok", None),
            None,
            ("error", None),
        ]
        scores.add("bad", None, row())
    assert [(r["path"], r["status"]) for r in rows(out)] == [
        ("a", "ok"),
        ("b", "ok"),
        ("worse", "error"),
        ("bad", "ok"),
    ]


# Shards


def paths(folder: Path) -> dict[str, list[str]]:
    return {path.name: [r["path"] for r in rows(path)] for path in sorted(folder.iterdir())}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD", 3)


@pytest.mark.usefixtures("small_shards")
def test_shards_are_filled_one_after_the_other(tmp_path: Path) -> None:
    out = tmp_path / "scores"
    filled(f"{out}/", list("abcd"))
    filled(out, list("efghij"))
    (out / "scores-00003.jsonl").write_bytes((out / "scores-00003.jsonl").read_bytes()[:-4])
    filled(out, list("j"))
    assert paths(out) == {
        "scores-00000.jsonl": list("abc"),
        "scores-00001.jsonl": list("def"),
        "scores-00002.jsonl": list("ghi"),
        "scores-00003.jsonl": list("j"),
    }
    with table(out) as scores:
        assert all(scores.claim(name) for name in "abcdefghij")
    with pytest.raises(AvfakeError) as caught:
        table(out, resume=False)
    assert caught.value.reason == "exists"


@pytest.mark.usefixtures("small_shards")
def test_stale_rows_leave_their_shards(tmp_path: Path) -> None:
    out = tmp_path / "scores"
    filled(f"{out}/", list("abcdefgh"))
    with table(out, is_stale=lambda name, member, row: name in "bh") as scores:
        assert scores.drop_stale((name, None) for name in "abcdefgh") == 2
        for name in "bhx":
            scores.add(name, None, row())
    assert list(paths(out).values()) == [list("ac"), list("def"), list("gbh"), list("x")]


def test_two_runs_into_one_folder_are_refused(tmp_path: Path) -> None:
    with table(f"{tmp_path}/scores/"):
        with pytest.raises(AvfakeError) as caught:
            table(tmp_path / "scores")
        assert caught.value.reason == "in_use"


def test_a_table_knows_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with table("s.jsonl") as scores:
        assert scores.holds("s.jsonl")
        assert scores.holds(f"{tmp_path}/s.jsonl")
        assert not scores.holds("t.jsonl")
    with table("t/") as scores:
        assert scores.holds("./t/scores-00000.jsonl")
        assert not scores.holds("t/clip.mp4")
        assert not scores.holds("scores-00000.jsonl")


def test_a_row_costs_little_memory_whatever_is_in_it(tmp_path: Path) -> None:
    out, count = tmp_path / "s.jsonl", 5000
    filled(out, [f"folder/{number}.mp4" for number in range(count)], message="x" * 1000)
    tracemalloc.start()
    try:
        with table(out):
            held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / count < 250
