"""The command as people run it: what it writes, says and returns, and how it stops."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from avfake.cli import main
from tests.clips import grey_frames, write_clip
from tests.test_batch import marked


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "avfake.cli", "batch", *arguments]


def call(*arguments: str, cwd: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*arguments),
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        **more,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.fixture
def clips(tmp_path: Path, sample_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    shutil.copy(sample_path, folder / "good.mp4")
    (folder / "text.mp4").write_text("hello")
    (folder / "empty.mp4").touch()
    write_clip(folder / "grey.mp4", grey_frames([80] * 20))
    os.mkfifo(folder / "fifo.mp4")
    return folder


def test_a_motley_folder_ends_with_a_row_each_and_a_summary(tmp_path: Path, clips: Path) -> None:
    done = call("clips", "./clips/good.mp4", "--out", "s.jsonl", "--workers", "1", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    seen = {row["path"]: row["reason"] or row["verdict"] for row in rows(tmp_path / "s.jsonl")}
    assert seen.pop("clips/good.mp4") in ("likely fake", "uncertain", "likely real")
    assert seen == {
        "clips/text.mp4": "not_media",
        "clips/empty.mp4": "empty_file",
        "clips/grey.mp4": "no_evidence",
        "clips/fifo.mp4": "not_a_file",
    }
    lines = done.stdout.splitlines()
    assert lines[0].startswith("models: default ")
    assert lines[1] == "s.jsonl: 5 files, 1 scored"
    assert {"  1 abstain:", "    no_evidence 1", "  3 error:", "    not_media 1"} <= set(lines)
    assert "5/5" in done.stderr
    assert "4 without a score" in done.stderr

    refused = call("clips", "--out", "s.jsonl", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "[exists]" in refused.stderr
    (clips / "text.mp4").write_text("hello again")  # has changed, and is judged again
    for option, judged in (("--resume", 1), ("--resume", 0), ("--retry-errors", 3)):
        done = call("clips", "--out", "s.jsonl", option, "--json", cwd=tmp_path)
        answer = json.loads(done.stdout)
        assert (answer["files"], answer["ok"], answer["judged"]) == (5, 1, judged)
        assert answer["reasons"] == {
            **{"not_media": 1, "empty_file": 1, "no_evidence": 1, "not_a_file": 1}
        }
        assert len(rows(tmp_path / "s.jsonl")) == 5
    other = call("clips", "--out", "s.jsonl", "--resume", "--max-seconds", "2", cwd=tmp_path)
    assert other.returncode == 1
    assert "max_seconds" in other.stderr
    assert "[other_run]" in other.stderr


def test_a_list_from_a_pipe_into_shards(tmp_path: Path, clips: Path) -> None:
    names = "clips/good.mp4\n\nclips/gone.mp4\nclips/good.mp4\n"
    done = call("--list", "-", "--out", "s/", "--brief", cwd=tmp_path, input=names)
    assert done.returncode == 1
    seen = rows(tmp_path / "s" / "scores-00000.jsonl")
    assert {row["path"]: row["reason"] for row in seen} == {
        "clips/good.mp4": None,
        "clips/gone.mp4": "not_found",
    }
    (good,) = [row for row in seen if row["status"] == "ok"]
    assert "boxes" not in good["tracks"][0]
    assert "windows" not in good["branches"]["audio"]
    (tmp_path / "list").write_text("clips/good.mp4\n")
    again = call("--list", "list", "--out", "s", "--resume", cwd=tmp_path)
    assert again.returncode == 0
    assert "had a row before: 1, judged now: 0" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 2, "--out"),
        (("--out", "s.jsonl"), 2, "Nothing to judge"),
        (("clips", "nobody", "--out", "s.jsonl"), 2, "no folder, zip or file nobody"),
        (("*.avi", "--out", "s.jsonl"), 2, "no folder, zip or file *.avi"),
        (("none", "--out", "s.jsonl"), 2, "There are no files in none"),
        (("--list", "nobody", "--out", "s.jsonl"), 2, "The list nobody cannot be read"),
        (("clips", "--out", "s.jsonl", "--workers", "0"), 2, "'0' is no number of processes"),
        (("clips", "--out", "s.jsonl", "--timeout", "soon"), 2, "'soon' is no time"),
        (("clips", "--out", "s.jsonl", "--bundle", "nobody"), 1, "nobody"),
        (("clips", "--out", "s.jsonl", "--face-model", "nobody.onnx"), 1, "nobody.onnx"),
        (("clips", "--out", "gone/s.jsonl"), 1, "[not_writable]"),
        (("clips/good.mp4", "--out", "clips/fifo.mp4"), 1, "no regular file"),
    ],
)
def test_wrong_usage_and_places_that_cannot_be_written(
    tmp_path: Path,
    clips: Path,
    arguments: tuple[str, ...],
    status: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "none").mkdir()
    monkeypatch.chdir(tmp_path)
    try:
        returned = main(["batch", *arguments])
    except SystemExit as stop:
        returned = int(stop.code or 0)
    assert returned == status
    assert words in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "none"]


def test_a_disk_that_fills_up_is_told_and_the_run_goes_on_later(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.mp4").write_text("no film")
    out = tmp_path / "s.jsonl"
    # A bound of the kernel, which takes as much of a row as still fits, as a full disk does.
    done = call(
        *("clips", "--out", "s.jsonl", "--workers", "1"),
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)),
    )
    assert done.returncode == 1
    assert "s.jsonl cannot be written: File too large." in done.stderr
    assert "--resume goes on. [not_writable]" in done.stderr
    before = rows(out)  # all of them whole
    assert 3 <= len(before) <= 9
    call("clips", "--out", "s.jsonl", "--resume", cwd=tmp_path)
    after = rows(out)
    assert after[: len(before)] == before
    assert sorted(row["path"] for row in after) == sorted(f"clips/{n}.mp4" for n in range(12))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups to interrupt")
def test_ctrl_c_ends_at_once_with_a_whole_file_and_no_workers(
    tmp_path: Path, sample_path: Path
) -> None:
    (tmp_path / "clips").mkdir()
    for number in range(200):
        (tmp_path / "clips" / f"{number:03d}.mp4").symlink_to(sample_path)
    process = subprocess.Popen(
        command("clips", "--out", "s.jsonl", "--workers", "2"),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"AVFAKE_MARK": str(tmp_path)},
        start_new_session=True,  # as from a terminal: the workers get it, too
        # What runs the tests in the background may have them ignore it, and all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    out, until = tmp_path / "s.jsonl", time.monotonic() + 300
    while not (out.exists() and out.stat().st_size) and time.monotonic() < until:
        time.sleep(0.01)
    refused = call("clips", "--out", "s.jsonl", "--resume", cwd=tmp_path)
    assert "[in_use]" in refused.stderr
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; the same command with --resume goes on" in errors
    assert "Traceback" not in errors
    assert out.read_bytes().endswith(b"\n")
    assert 0 < len(rows(out)) < 200
    assert marked(str(tmp_path)) == []
