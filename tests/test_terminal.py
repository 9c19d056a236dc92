"""What a stranger called a file is shown, and does nothing to the terminal that shows it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avfake.terminal import visible

NAME = "a\x1b]0;owned\x07\x1b[2J\u202e4pm\n[ok].mp4"


@pytest.mark.parametrize(
    "text",
    ["", "clip.mp4", "ÄÖÜ ñ.mp4", "日本語\u3000.mp4", "می\u200cمی", "👩\u200d💻", "a\u0301"],
)
def test_letters_of_all_scripts_stay_as_they_are(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("\x9b2J\x7f\0", r"\x9b2J\x7f\x00"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("\u200bno\ufeffwidth\u2028", r"\u200bno\ufeffwidth\u2028"),
    ],
)
def test_what_steers_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_name_that_is_not_utf8_passes_for_the_stream_to_replace() -> None:
    assert visible("clip\udcff.mp4") == "clip\udcff.mp4"


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("arguments", [("predict",), ("submit",), ("info", "--bundle")])
def test_no_command_sends_a_strangers_escapes_to_the_terminal(
    tmp_path: Path, arguments: tuple[str, ...], there: bool
) -> None:
    if there:
        (tmp_path / NAME).write_bytes(b"no media")
    done = subprocess.run(
        [sys.executable, "-m", "avfake.cli", *arguments, NAME],
        capture_output=True,
        cwd=tmp_path,
        env=os.environ | {"FORCE_COLOR": "1", "PYTHONPATH": str(Path(__file__).parent.parent)},
        timeout=120,
    )
    assert done.returncode
    said = (done.stdout + done.stderr).decode()
    assert "\x1b]" not in said
    assert "\x1b[2J" not in said
    assert "\u202e" not in said
    assert "\x07" not in said
    if arguments != ("submit",):  # it tells of counts; names stand in its log, as JSON
        assert "owned" in said


def test_a_log_shows_names_and_obeys_none() -> None:
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import logging, sys; from avfake.terminal import log_to; log_to(sys.stderr, 30); "
            f"logging.getLogger('x').warning('%s is damaged', {NAME!r})",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stderr.startswith("WARNING x: a\\x1b]0;owned")
    assert said.stderr.count("\n") == 1
