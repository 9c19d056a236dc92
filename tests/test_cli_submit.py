"""The command as people run it, killed and interrupted too: the submission stays whole."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from avfake.submission import log_of
from tests.clips import grey_frames, remux, write_clip
from tests.test_submission import log, rows


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "avfake.cli", "submit", *arguments]


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )


ODD = ["-dash.mp4", "sp ace.mp4", "qu\"ote,'s.mp4", "ünïcode 视频.mp4", "[1].mp4", "%0A;$HOME.mp4"]


@pytest.fixture
def motley(tmp_path: Path, sample_path: Path) -> tuple[Path, list[str]]:
    """A folder of good, corrupt, silent, missing and oddly named clips, and its sample's names."""
    folder = tmp_path / "test_videos"
    folder.mkdir()
    for name in ("good.mp4", *ODD):
        shutil.copy(sample_path, folder / name)
    (folder / "sub").mkdir()
    shutil.copy(sample_path, folder / "sub" / "good.mp4")
    remux(sample_path, folder / "silent.mp4", with_sound=False)
    (folder / "corrupt.mp4").write_bytes(b"hello" * 100)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "cut.mp4").write_bytes(sample_path.read_bytes()[:60_000])
    write_clip(folder / "grey.mp4", grey_frames([80] * 20))
    names = ["good.mp4", *ODD, "silent.mp4", "corrupt.mp4", "missing.mp4", "empty.mp4"]
    names += ["cut.mp4", "grey.mp4", "../../../etc/passwd", "sub/good.mp4"]
    with (tmp_path / "sample.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("filename", "label"), *((name, 0.5) for name in names)])
    return folder, names


FAILED = {"corrupt.mp4", "missing.mp4", "empty.mp4", "grey.mp4", "../../../etc/passwd"}


def test_a_motley_folder_from_the_command_line(
    tmp_path: Path, motley: tuple[Path, list[str]]
) -> None:
    folder, names = motley
    labels = {"good.mp4": {"label": "FAKE"}, "silent.mp4": {"label": "REAL"}}
    (folder / "metadata.json").write_text(json.dumps(labels))
    done = call("test_videos", "--sample", "sample.csv", "--deadline", "10m", cwd=tmp_path)
    values = rows(tmp_path / "submission.csv", names)
    assert {name for name, value in zip(names, values, strict=True) if value == 0.5} == FAILED
    assert done.returncode == 1, done.stderr  # 5 of 15 have no score: more than a fifth
    assert "33% of the videos have no score" in done.stderr
    for words in ("8.1 s a video", "log-loss", "over the 2 labelled", "not_media 1", "10 scored"):
        assert words in done.stdout
    assert "15/15" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    arguments = ("test_videos", "--sample", "sample.csv", "--max-failed", "0.4", "--json")
    again = call(*arguments, cwd=tmp_path)
    assert again.returncode == 0
    assert json.loads(again.stdout)["judged"] == 0
    assert rows(tmp_path / "submission.csv", names) == values


def test_without_a_sample_all_videos_are_listed(tmp_path: Path, sample_path: Path) -> None:
    for name in ("b.mp4", "a.mp4"):
        shutil.copy(sample_path, tmp_path / name)
    done = call("*.mp4", "--out", "out.csv", "--workers", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    one, other = rows(tmp_path / "out.csv", ["a.mp4", "b.mp4"])
    assert one == other != 0.5


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 2, "usage:"),
        (("t", "--deadline", "soon"), 2, "8h30m"),
        (("t", "--clip", "0.9", "0.1"), 2, "--clip"),
        (("t", "--prior", "2"), 2, "between 0 and 1"),
        (("t", "--prior", "low"), 2, "'low' is no number between 0 and 1"),
        (("t", "--workers", "0"), 2, "'0' is no number of processes"),
        (("t", "--workers", "two"), 2, "'two' is no number of processes"),
        (("nobody",), 1, "no folder, zip or file nobody"),
        (("t",), 1, "no videos in t"),
        (("t", "--sample", "nobody.csv"), 1, "nobody.csv"),
    ],
)
def test_wrong_usage_and_nothing_to_do(
    tmp_path: Path, arguments: tuple[str, ...], status: int, words: str
) -> None:
    (tmp_path / "t").mkdir()
    done = call(*arguments, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False)
    assert words in done.stderr
    assert not (tmp_path / "submission.csv").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups to interrupt")
def test_ctrl_c_ends_at_once_and_says_how_to_go_on(tmp_path: Path, sample_path: Path) -> None:
    # So many that a busy machine cannot be through with them before the interrupt is sent.
    names = [f"{number:03d}.mp4" for number in range(200)]
    (tmp_path / "test_videos").mkdir()
    for name in names:
        (tmp_path / "test_videos" / name).symlink_to(sample_path)
    process = subprocess.Popen(
        command("test_videos", "--workers", "1"),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as from a terminal: the workers get it, too
        # What runs the tests in the background may have them ignore it, and all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    path, until = log_of(tmp_path / "submission.csv"), time.monotonic() + 60
    while not (path.exists() and '"ok"' in path.read_text()) and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=15)
    assert process.returncode == 130
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    rows(tmp_path / "submission.csv", names)


def kill_at_random(
    arguments: Sequence[str], folder: Path, names: Sequence[str], kills: int, seed: int
) -> subprocess.CompletedProcess[str]:
    """Kill the command `kills` times, look at what it leaves each time; then let it end."""
    chance = random.Random(seed)
    for _ in range(kills):
        process = subprocess.Popen(
            command(*arguments),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 30
        while not (folder / "submission.csv").exists() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 3.0))
        process.kill()
        process.wait()
        rows(folder / "submission.csv", names)
    return call(*arguments, cwd=folder)


def test_killed_and_continued_it_ends_as_if_nothing_had_happened(
    tmp_path: Path, motley: tuple[Path, list[str]]
) -> None:
    _, names = motley
    done = kill_at_random(["test_videos", "--sample", "sample.csv"], tmp_path, names, 3, seed=0)
    check_after_kills(tmp_path, names)
    assert done.returncode == 1


@pytest.mark.slow
def test_killed_twenty_times(tmp_path: Path, motley: tuple[Path, list[str]]) -> None:
    _, names = motley
    kill_at_random(["test_videos", "--sample", "sample.csv"], tmp_path, names, 20, seed=1)
    check_after_kills(tmp_path, names)


def check_after_kills(folder: Path, names: Sequence[str]) -> None:
    values = dict(zip(names, rows(folder / "submission.csv", names), strict=True))
    entries = log(folder / "submission.csv")
    ended = [entry["name"] for entry in entries if entry["status"] in ("ok", "abstain", "error")]
    assert sorted(ended) == sorted(names)  # every one, and none twice
    twice = {entry["name"] for entry in entries if entry.get("reason") == "interrupted"}
    assert {name for name, value in values.items() if value == 0.5} == FAILED | twice
    assert len({values[name] for name in ["good.mp4", *ODD] if name not in twice}) <= 1
