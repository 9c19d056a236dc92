"""What commands share: options, kinds of options, and how those that work for long tell of it."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from avfake.types import Prediction

if TYPE_CHECKING:
    from avfake.detector import Detector
    from avfake.isolation import IsolatedDetector


def add_face_model(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses what finds the faces."""
    parser.add_argument(
        "--face-model",
        metavar="FILE.onnx|dlib",
        help="find faces with this YuNet model, or dlib, instead of the bundle's own finder",
    )


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """Add the option that bounds how long a command is at one file."""
    parser.add_argument(
        "--timeout",
        type=duration,
        default=3600.0,
        metavar="1h",
        help="time for one file (default: 1h)",
    )


def mark(prediction: Prediction, out: str, detector: IsolatedDetector) -> None:
    """Write the marked-up clip in the detector's process. Whatever happens to that, only a whole
    one is left. Raises AvfakeError."""
    from avfake.markup import whole

    with whole(out) as part:
        detector.ask(partial(_mark, prediction, str(part)), prediction.path)


def _mark(prediction: Prediction, out: str, detector: Detector) -> None:
    from avfake.markup import write_marked_video

    write_marked_video(prediction, out, detector.limits)


class Teller:
    """Progress on stderr: one line that is written over on a terminal, one a minute elsewhere.

    Use as a context manager: what is printed after it begins on a line of its own.
    """

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._every = 0.2 if self._terminal else 60.0
        self._next = 0.0
        self._shown = 0  # characters of the line that the cursor is on

    def __enter__(self) -> Teller:
        return self

    def __exit__(self, *fault: object) -> None:
        if self._shown:
            print(file=sys.stderr, flush=True)
            self._shown = 0

    def tell(self, done: int, total: int, *facts: str) -> None:
        """Show how far it is, when it is time to, and in the end."""
        if time.monotonic() < self._next and done < total:
            return
        if not (done or self._terminal):
            return  # a log need not say that nothing has happened yet
        self._next = time.monotonic() + self._every
        line = "  " + ", ".join((f"{done:,}/{total:,}", *facts))
        if self._terminal:
            line = line[: shutil.get_terminal_size().columns - 1]
            print(f"\r{line:<{self._shown}}", end="", file=sys.stderr, flush=True)
            self._shown = len(line)
        else:
            print(line, file=sys.stderr, flush=True)


def printer(quiet: bool) -> Callable[[str], None]:
    """What prints a line at once, for who reads along through a pipe; nothing where it is to be
    `quiet`, as for --json."""

    def say(line: str) -> None:
        if not quiet:
            print(line, flush=True)

    return say


def print_json(answer: Mapping[str, Any]) -> None:
    """Print an answer, at once, as a line of JSON that any parser reads."""
    from avfake.scores import readable

    print(json.dumps(readable(answer)), flush=True)


def counted(number: int, noun: str) -> str:
    """A number of things: 1 file, 2,000 files."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def span(seconds: float) -> str:
    """Seconds as people say them: 45 s, 12 min, 2 h 05 min, 3 d 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def some(text: str) -> int:
    """A number of processes, as an option gives it."""
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes, such as 2")
    return int(text)


def duration(text: str) -> float:
    """Seconds of "8h30m", "45m", "90s" or "5400"; of "8h30" nobody knows what the 30 are."""
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(rf"(?:(\d+)h)?(?:(\d+)m)?(?:{number}s)?|{number}", text.strip().lower())
    seconds = 0.0
    if match is not None:
        hours, minutes, *rest = (float(part or 0) for part in match.groups())
        seconds = 3600 * hours + 60 * minutes + sum(rest)
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 8h30m, 45m or 90s")
    return seconds
