"""`avfake report` as people run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from avfake.cli import main
from avfake.isolation import IsolatedDetector
from tests.clips import grey_frames, write_clip


def test_one_command_writes_all_that_was_asked_for(sample_path: Path, tmp_path: Path) -> None:
    """In a process of its own, in another folder: the template is found, the page is whole."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "avfake.cli", "report", str(sample_path)),
            *("--video", "a.mp4", "--json"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    page = (tmp_path / "sample.mp4.report.html").read_text("utf-8")
    assert answer["verdict"].capitalize() in page
    assert answer["bundle"]["sha256"] in page
    assert "Content Credentials" in page
    assert (tmp_path / "a.mp4").stat().st_size > 10_000
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.usefixtures("pango")
def test_the_page_is_written_as_pdf_too(sample_path: Path, tmp_path: Path) -> None:
    page, pdf = tmp_path / "a.html", tmp_path / "a.pdf"
    assert main(["report", str(sample_path), "--out", str(page), "--pdf", str(pdf)]) == 0
    assert pdf.read_bytes().startswith(b"%PDF-")


def test_it_says_what_it_wrote_and_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_clip(tmp_path / "grey.mp4", grey_frames([90] * 20)), tmp_path / "o.html"
    assert main(["report", str(path), "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "not judged" in printed
    assert str(out) in printed.replace("\n", "")
    assert "Nothing to judge" in out.read_text("utf-8")


def test_an_error_has_a_report_and_a_missing_file_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "text.mp4", tmp_path / "o.html"
    path.write_text("no clip")
    assert main(["report", str(path), "--out", str(out), "--video", str(tmp_path / "v.mp4")]) == 1
    assert "not_media" in out.read_text("utf-8")
    assert not (tmp_path / "v.mp4").exists()
    out.unlink()
    assert main(["report", str(tmp_path / "nobody.mp4"), "--out", str(out)]) == 1
    assert "[not_found]" in capsys.readouterr().err
    assert not out.exists()


def test_limits_reach_the_report(tmp_path: Path) -> None:
    path, out = write_clip(tmp_path / "grey.mp4", grey_frames([90] * 20)), tmp_path / "o.html"
    assert main(["report", str(path), "--out", str(out), "--max-pixels", "100"]) == 1
    page = out.read_text("utf-8")
    assert "too_large" in page
    assert "100 pixels" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "clip.mp4"], "must end in .html"),
        (["--out", "nowhere/a.html"], "cannot be written"),
        (["--out", "folder.html"], "cannot be written"),
        (["--pdf", "a.html"], "must end in .pdf"),
        (["--video", "a.avi"], "must end in .mp4"),
        (["--video", "clip.mp4"], "is there already"),
    ],
)
def test_outputs_that_cannot_be_are_told_before_any_work(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "clip.mp4").write_text("not even opened")
    assert main(["report", "clip.mp4", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert (tmp_path / "clip.mp4").read_text() == "not even opened"
    assert not (tmp_path / "clip.mp4.report.html").exists()


def test_a_page_never_takes_the_place_of_what_it_is_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clip.html"
    path.write_text("mine")
    assert main(["report", str(path), "--out", str(path)]) == 2
    assert path.read_text() == "mine"


def test_a_file_that_changes_meanwhile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_clip(tmp_path / "grey.mp4", grey_frames([90] * 5))
    ask = IsolatedDetector.ask

    def slow(self: IsolatedDetector, *question: Any) -> object:
        answer = ask(self, *question)
        with path.open("ab") as file:
            file.write(b"more")
        return answer

    monkeypatch.setattr(IsolatedDetector, "ask", slow)
    out = tmp_path / "o.html"
    assert main(["report", str(path), "--out", str(out)]) == 1
    assert "[file_changed]" in capsys.readouterr().err
    assert not out.exists()
