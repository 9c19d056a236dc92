"""The command `avfake predict`: files judged one after the other, each with its reasons."""

from __future__ import annotations

import argparse
from typing import Any

from avfake.cli_common import add_face_model, add_timeout, mark, print_json
from avfake.cli_limits import add_limits, limits_of
from avfake.types import AvfakeError, Progress

NOTES = """\
examples:
  avfake predict clip.mp4                    a verdict, with each branch second by second
  avfake predict *.mp4 --json > out.jsonl    one JSON object a line
  avfake predict voice.wav portrait.jpg      sound files and still images work too

exit status: 0 all files were judged, 1 some were not (each says why), 2 wrong usage

A probability is no proof: treat "likely fake" as a reason to look closer. It is what
holds where every second clip is a fake; where fakes are rarer, so is the truth of an alarm."""


def add_predict(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to argparse's `commands`; `common` holds the options that all share."""
    predict = commands.add_parser(
        "predict",
        parents=[common],
        help="score videos, sound files or still images",
        description="Score videos, sound files or still images.",
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predict.add_argument("paths", nargs="+", metavar="FILE", help="what to score")
    add_face_model(predict)
    predict.add_argument(
        "--threads",
        type=_count,
        default=0,
        metavar="N",
        help="cores for the networks (default: all)",
    )
    add_timeout(predict)
    predict.add_argument(
        "--video",
        metavar="OUT.mp4",
        help="also write the clip with its faces marked (one FILE only; extra 'report')",
    )
    add_limits(predict, memory=True)
    predict.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.text import Text

    from avfake.isolation import IsolatedDetector, reachable
    from avfake.report import render
    from avfake.terminal import visible
    from avfake.workers import Models

    if options.video:
        if len(options.paths) > 1:
            raise AvfakeError("usage", "--video marks one clip: give one FILE.")
        from avfake.markup import check_target

        check_target(options.video)
    limits = limits_of(options)
    models = Models(options.bundle, options.face_model, options.threads, limits)
    console = Console(highlight=False)
    spinner = Console(stderr=True).status("")  # where somebody is watching

    def hear(progress: Progress) -> None:
        spinner.update(Text(f"looking at {visible(path)} {progress.share:.0%}"))

    status = 0
    with IsolatedDetector(models, options.timeout, limits.memory, hear) as detector:
        for path in map(reachable, options.paths):
            spinner.update(Text(f"looking at {visible(path)}"))
            with spinner:
                prediction = detector.predict(path)
            if prediction.status != "ok":
                status = 1
            if options.json:
                print_json(prediction.to_dict())
            else:
                console.print(render(prediction), soft_wrap=True)
            if options.video and prediction.media is not None:
                mark(prediction, options.video, detector)
    return status


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of cores, such as 2")
    return int(text)
