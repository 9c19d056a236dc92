"""Progress that reads well on a terminal and in a log; options in the units of people."""

from __future__ import annotations

import argparse
import io
import os

import pytest

from avfake.cli_common import Teller, counted, duration, print_json, some, span


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_that_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("COLUMNS", "30")
    with Teller() as teller:
        teller.tell(0, 2000)
        teller.tell(1, 2000, "too soon to be shown")
        teller._next = 0
        teller.tell(999, 2000, "a very long story that has no room")
        teller.tell(2000, 2000)
    first, second, third = screen.getvalue().split("\r")[1:]
    assert first == "  0/2,000"
    assert len(second) == 29  # a line that wraps cannot be written over
    assert third == f"{'  2,000/2,000':29}\n"


def test_a_log_has_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with Teller() as teller:
        for done in range(10):
            teller.tell(done, 9, "9 s to go")
    assert log.getvalue() == "  1/9, 9 s to go\n  9/9, 9 s to go\n"


def test_times_and_numbers_as_people_say_them() -> None:
    spans = [span(seconds) for seconds in (4.4, 89, 90, 3599, 3600, 7500, 172_799, 200_000)]
    assert spans == [
        *("4 s", "89 s", "2 min", "1 h 00 min", "1 h 00 min", "2 h 05 min"),
        *("2 d 0 h", "2 d 7 h"),
    ]
    assert [counted(number, "file") for number in (0, 1, 2000)] == [
        "0 files",
        "1 file",
        "2,000 files",
    ]
    assert [duration(text) for text in ("8h30m", "45m", "90s", "1.5", "1h", "1M2.5S")] == [
        *(30_600, 2700, 90, 1.5, 3600, 62.5)
    ]


@pytest.mark.parametrize("text", ["", "0", "soon", "5x", "-3", "1m1h", "8h30", "1 h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no time"):
        duration(text)


@pytest.mark.parametrize("text", ["", "0", "two", "-1", "1.5", "٣"])
def test_what_is_no_number_of_processes_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no number of processes"):
        some(text)


def test_what_is_printed_as_json_is_read_by_any_parser(capsys: pytest.CaptureFixture[str]) -> None:
    """Python would take half of a surrogate and NaN, which JSON does not know."""
    print_json({"path": os.fsdecode(b"clip\xff.mp4"), "fps": float("nan"), "name": "ü\n"})
    assert capsys.readouterr().out == (
        '{"path": "clip\\\\xff.mp4", "fps": null, "name": "\\u00fc\\n"}\n'
    )
