"""The command `avfake report`: one file judged, and a page about it that can be handed on."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avfake.cli_common import add_face_model, add_timeout, mark, print_json
from avfake.cli_limits import add_limits, limits_of
from avfake.types import AvfakeError, Prediction

if TYPE_CHECKING:
    from avfake.credentials import Credentials
    from avfake.detector import Detector

NOTES = """\
examples:
  avfake report clip.mp4                              clip.mp4.report.html, which holds all it shows
  avfake report clip.mp4 --out a.html --pdf a.pdf     the same on paper
  avfake report clip.mp4 --video marked.mp4           and the clip with its faces marked

A file that cannot be judged has a report, too: it says why.

exit status: 0 the file was judged, 1 it was not (or there is no such file), 2 wrong usage"""


def add_report(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to argparse's `commands`; `common` holds the options that all share."""
    report = commands.add_parser(
        "report",
        parents=[common],
        help="judge a file and write a page about it, for people",
        description="Judge a file and write a page about it, for people (extra 'report').",
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    report.add_argument("path", metavar="FILE", help="what to judge")
    report.add_argument(
        "--out",
        metavar="OUT.html",
        help="the page (default: FILE's name and .report.html, here); an older one is replaced",
    )
    report.add_argument(
        "--pdf", metavar="OUT.pdf", help="also write the page as PDF; an older one is replaced"
    )
    report.add_argument(
        "--video",
        metavar="OUT.mp4",
        help="also write the clip with its faces marked; refused where there is one already",
    )
    add_face_model(report)
    add_timeout(report)
    add_limits(report, memory=True)
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from avfake.isolation import IsolatedDetector, reachable

    path = Path(reachable(options.path))
    out = Path(options.out or f"{path.name}.report.html")
    _check_targets(options, path, out)
    limits = limits_of(options)

    from rich.console import Console
    from rich.text import Text

    from avfake.credentials import read_credentials
    from avfake.html import check_html, check_pdf, write_pdf, write_whole
    from avfake.report import render
    from avfake.terminal import visible
    from avfake.workers import Models

    check_html()
    if options.pdf:
        check_pdf()
    before = _state(path)
    models = Models(options.bundle, options.face_model, limits=limits)
    with (
        IsolatedDetector(models, options.timeout, limits.memory) as detector,
        Console(stderr=True).status(Text(f"looking at {visible(str(path))}")),
    ):
        prediction = detector.predict(path)
        credentials = read_credentials(path, limits=limits)
        settings = {"Faces found by": options.face_model or "the models' own finder"}
        page = detector.ask(partial(_page, prediction, credentials, settings), path)
        if _state(path) != before:
            text = f"{path.name} was changed while it was judged: nothing true can be said of it."
            raise AvfakeError("file_changed", text)
        write_whole(out, page.encode("utf-8"))
        written = [out]
        if options.pdf:
            write_pdf(page, options.pdf)
            written.append(Path(options.pdf))
        if options.video and prediction.media is not None:
            mark(prediction, options.video, detector)
            written.append(Path(options.video))
    if options.json:
        print_json(prediction.to_dict())
    else:
        console = Console(highlight=False)
        console.print(render(prediction), soft_wrap=True)
        for target in written:
            console.print(Text(f"  written: {target}"), soft_wrap=True)
        if options.video and prediction.media is None:
            console.print(Text(f"  not written: {options.video}, for nothing was judged"))
    return 0 if prediction.status == "ok" else 1


def _page(
    prediction: Prediction,
    credentials: Credentials,
    settings: dict[str, str],
    detector: Detector,
) -> str:
    from avfake.html import report_html

    return report_html(prediction, detector, credentials=credentials, settings=settings)


def _check_targets(options: argparse.Namespace, path: Path, out: Path) -> None:
    """Raise AvfakeError before any work is done where an output could not be, or be meant."""
    for target, suffixes in ((out, (".html", ".htm")), (options.pdf, (".pdf",))):
        if target is None:
            continue
        target = Path(target)
        if target.suffix.lower() not in suffixes:
            text = f"{target.name} must end in {suffixes[0]}."
            raise AvfakeError("usage", text)
        if target.is_dir() or not os.access(target.parent, os.W_OK):
            raise AvfakeError("usage", f"{target} cannot be written.")
        if target.exists() and path.exists() and target.samefile(path):
            raise AvfakeError("usage", f"{target} is what is to be judged.")
    if options.video:
        from avfake.markup import check_target

        check_target(options.video)


def _state(path: Path) -> tuple[int, int, int]:
    """What changes when a file does. Raises AvfakeError `not_found` where there is none."""
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        raise AvfakeError("not_found", f"There is no file {path.name}.") from None
    return facts.st_size, facts.st_mtime_ns, facts.st_ino
