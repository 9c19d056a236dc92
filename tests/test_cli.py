"""The command as people run it: in a process of its own, with its output and exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import avfake
from avfake.cli import main
from tests.clips import grey_frames, write_clip


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "avfake.cli", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="surrogateescape",
        env=os.environ | {"COLUMNS": "120"} | environment,
        timeout=120,
    )


def test_help_shows_a_newcomer_the_way() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("predict", "info", "deepfake"):
        assert word in done.stdout
    done = run("predict", "--help")
    assert done.returncode == 0
    for word in ("--json", "--face-model", "exit status", "avfake predict clip.mp4"):
        assert word in done.stdout


@pytest.mark.slow
def test_help_takes_less_than_half_a_second() -> None:
    spent = []
    for _ in range(5):
        started = time.perf_counter()
        run("--help")
        spent.append(time.perf_counter() - started)
    assert min(spent) < 0.5


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"avfake {avfake.__version__}")


@pytest.mark.parametrize(
    "arguments",
    [(), ("predict",), ("nonsense",), ("predict", "--threads", "x", "a.mp4"), ("info", "extra")],
)
def test_wrong_usage_is_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert done.stdout == ""


def test_predict_prints_a_table(bundle_folder: str, sample_path: Path) -> None:
    done = run("predict", "--bundle", bundle_folder, str(sample_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("sample.mp4")
    assert re.search(r"probability of a fake (\d\d?|under 1|over 99)%", lines[1])
    for name in ("picture", "voice", "lip-sync"):
        (row,) = [line for line in lines if line.split()[:1] == [name]]
        assert sum(character in "▁▂▃▄▅▆▇█·" for character in row) == 6


def test_json_is_one_object_a_line_and_some_failures_are_1(
    bundle_folder: str, sample_path: Path, tmp_path: Path
) -> None:
    grey = write_clip(tmp_path / "grey.mp4", grey_frames([80] * 20))
    paths = [str(sample_path), str(tmp_path / "nobody.mp4"), str(tmp_path), str(grey)]
    done = run("predict", "--json", "--bundle", bundle_folder, *paths)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [a["path"] for a in answers] == paths
    assert [a["status"] for a in answers] == ["ok", "error", "error", "abstain"]
    assert [a["reason"] for a in answers] == [None, "not_found", "not_a_file", "no_evidence"]
    assert [a["fake_probability"] is None for a in answers] == [False, True, True, True]
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert set(answers[0]) == {
        *("path", "status", "reason", "message", "fake_probability", "verdict", "branches"),
        *("tracks", "segments", "media", "warnings", "bundle", "seconds"),
    }


def test_bad_input_has_a_sentence_and_no_traceback(bundle_folder: str, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    done = run("predict", "--bundle", bundle_folder, str(tmp_path / "text.mp4"))
    assert done.returncode == 1
    assert "text.mp4 is damaged, or no video, sound or image file" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--bundle", "nobody", "a.mp4"), "no bundle nobody"),
        (("--face-model", "nobody.onnx", "a.mp4"), "nobody.onnx"),
    ],
)
def test_a_wrong_set_up_is_told_on_stderr(
    bundle_folder: str, arguments: tuple[str, ...], words: str
) -> None:
    if "--bundle" not in arguments:
        arguments = ("--bundle", bundle_folder, *arguments)
    done = run("predict", *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_info_tells_models_finders_and_devices(bundle_folder: str) -> None:
    done = run("info", "--json", "--bundle", bundle_folder)
    assert done.returncode == 0
    facts = json.loads(done.stdout)
    assert facts["avfake"] == avfake.__version__
    assert set(facts["graphs"]) == {"visual", "audio", "lipsync", "fusion", "finder"}
    assert "CPU" in facts["devices"]
    assert facts["cores"] >= 1
    assert facts["face_finders"][0] == "bundled (default)"
    assert any("dlib" in finder for finder in facts["face_finders"])
    text = run("info", "--bundle", bundle_folder)
    assert text.returncode == 0
    assert bundle_folder in text.stdout.replace("\n", "")


def test_info_shows_a_folder_whose_name_looks_like_markup(
    bundle_folder: str, tmp_path: Path
) -> None:
    folder = tmp_path / "[bold]models"
    folder.symlink_to(bundle_folder)
    done = run("info", "--bundle", str(folder))
    assert done.returncode == 0
    assert str(folder) in done.stdout


def test_a_name_that_is_not_utf_8_is_judged_like_any_other(
    bundle_folder: str, tmp_path: Path
) -> None:
    plain = write_clip(tmp_path / "clip.mp4", grey_frames([90] * 10))
    odd = os.path.join(os.fsencode(tmp_path), b"clip\xff.mp4")
    try:
        os.rename(plain, odd)
    except OSError:
        pytest.skip("this file system takes no such names")
    for mode in ("--json", "--verbose"):
        arguments = ("predict", mode, "--bundle", bundle_folder, os.fsdecode(odd))
        done = run(*arguments, PYTHONIOENCODING="utf-8:strict")  # as in most people's locale
        assert "Traceback" not in done.stderr, mode
        assert done.returncode == 1
        assert "clip" in done.stdout


def test_a_terminal_without_unicode_gets_an_answer_too(
    bundle_folder: str, sample_path: Path
) -> None:
    """As on Windows, when output goes to a file."""
    done = run("predict", "--bundle", bundle_folder, str(sample_path), PYTHONIOENCODING="cp1252")
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
    assert "probability of a fake" in done.stdout


def test_a_reader_that_leaves_early_is_no_fault(bundle_folder: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "avfake.cli", "predict", "--json", "--bundle", bundle_folder]
    process = subprocess.Popen(
        [*command, *[str(tmp_path / f"{i}.mp4") for i in range(50)]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    process.wait(timeout=60)
    assert "Traceback" not in errors


def test_main_returns_its_status(
    bundle_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "--json", "--bundle", bundle_folder, str(tmp_path)]) == 1
    assert json.loads(capsys.readouterr().out)["reason"] == "not_a_file"


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="only Linux tells of others' files")
@pytest.mark.parametrize("command", ["predict", "report"])
def test_a_file_that_is_open_already_is_judged_and_a_pipe_refused(
    command: str, sample_path: Path, tmp_path: Path
) -> None:
    """As a shell names them: `avfake predict <(cat clip.mp4)` is a pipe. In the worker process,
    where files are judged, the same number is another file or none."""
    pipe, other = os.pipe()
    clip = os.open(sample_path, os.O_RDONLY)
    try:
        answers = []
        for number in (clip, pipe):
            done = subprocess.run(
                [sys.executable, "-m", "avfake", command, f"/dev/fd/{number}", "--json"],
                stdout=subprocess.PIPE,
                pass_fds=(number,),
                cwd=tmp_path,
                timeout=120,
            )
            answers.append(json.loads(done.stdout))
    finally:
        for one in (pipe, other, clip):
            os.close(one)
    assert [answer["reason"] for answer in answers] == [None, "not_a_file"]
    assert answers[0]["media"]["video_codec"] == "h264"


# Ctrl-C

STARTS = {
    "avfake": ["-c", "import sys; from {} import {}; sys.exit({}())"],
    "python -m avfake": ["-m", "avfake"],
    "python -m avfake.cli": ["-m", "avfake.cli"],
}
INTERRUPT = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
SWALLOWED = f"""
try:
    {INTERRUPT}
except NoSuchName:
    pass
except BaseException:
    print("went on")
"""
AT_A_CALL = f"""
import sys

def watch(frame, event, _):
    if event == "call" and frame.f_code.co_qualname == "%s":
        sys.setprofile(None)
        {INTERRUPT}

sys.setprofile(watch)
"""
AT_THE_END = f"import atexit; atexit.register(lambda: exec({INTERRUPT!r}))"


def interrupted(start: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, with `folder` to import from before all others."""
    command = list(STARTS[start])
    if start == "avfake":  # the script that an installer writes
        text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
        module, name = tomllib.loads(text)["project"]["scripts"]["avfake"].split(":")
        command[1] = command[1].format(module, name, name)
    return subprocess.run(
        [sys.executable, *command, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{folder}:{Path(__file__).parent.parent}"},
        # What runs the tests in the background may have them ignore it, and all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        timeout=120,
    )


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    "module",
    [
        "argparse",  # of Python's own, for the options
        "numpy",  # before the options are read
        "psutil",  # after that, by the command itself
    ],
)
def test_ctrl_c_while_modules_are_imported_leaves_no_trace(
    start: str, module: str, tmp_path: Path
) -> None:
    (tmp_path / f"{module}.py").write_text(SWALLOWED)
    done = interrupted(start, tmp_path, "predict", "nobody.mp4")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    ("call", "words"),
    [("_parser", ""), ("run", "stopped; the same command with --resume goes on\n")],
)
def test_ctrl_c_at_any_other_time_lets_the_command_clean_up(
    start: str, call: str, words: str, tmp_path: Path
) -> None:
    """While options are read, and while files are judged."""
    (tmp_path / "sitecustomize.py").write_text(AT_A_CALL % call)
    clips, out = tmp_path / "clips", tmp_path / "rows.jsonl"
    clips.mkdir()
    (clips / "text.mp4").write_text("hello")
    done = interrupted(start, tmp_path, "batch", str(clips), "--json", "--out", str(out))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", words)


@pytest.mark.parametrize("start", STARTS)
def test_ctrl_c_once_all_is_said_leaves_no_trace(start: str, tmp_path: Path) -> None:
    """While Python tidies up."""
    (tmp_path / "sitecustomize.py").write_text(AT_THE_END)
    done = interrupted(start, tmp_path, "--version")
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
    assert done.stdout == f"avfake {avfake.__version__}\n"


def test_ctrl_c_that_is_to_be_ignored_is(tmp_path: Path) -> None:
    """As a shell has it for what it starts in the background."""
    (tmp_path / "psutil.py").write_text(f"{INTERRUPT}\nprint('went on')\nos._exit(66)\n")
    command = [sys.executable, "-m", "avfake", "predict", "nobody.mp4"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (66, "went on\n", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
@pytest.mark.parametrize("arguments", [("info",), ("predict", "--json", "nobody.mp4")])
def test_a_full_disk_under_the_output_is_told_in_a_sentence(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "avfake.cli", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "avfake: Output cannot be written: No space left on device. [not_written]\n"
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_cost_nothing(closed: str, tmp_path: Path) -> None:
    """And what was meant for them does not get into the rows."""
    (tmp_path / "text.mp4").write_text("hello")
    out = tmp_path / "rows.jsonl"
    command = f'"$0" -m avfake.cli batch text.mp4 --verbose --out "$1" {closed}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, str(out)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (row,) = out.read_text().splitlines()
    assert json.loads(row)["reason"] == "not_media"
