"""The command `avfake submit`: its options, its progress and what it says in the end."""

from __future__ import annotations

import argparse
import math
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from avfake.cli_common import Teller, duration, print_json, printer, some, span
from avfake.cli_limits import add_limits, limits_of
from avfake.types import AvfakeError

if TYPE_CHECKING:
    from avfake.submission import Progress

NOTES = """\
examples:
  avfake submit test_videos --sample sample_submission.csv --deadline 8h30m
  avfake submit train_sample_videos.zip      its metadata.json gives a local log-loss, too

The submission is complete and valid from the first second on: each row holds the prior until its
video is scored. submission.log.jsonl says what happened to each. A run that was stopped goes on
where it was when the same command is given again.

exit status: 0 done, 1 more than --max-failed of the videos have no score (or the run could not
begin), 2 wrong usage"""


def add_submit(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to argparse's `commands`; `common` holds the options that all share."""
    submit = commands.add_parser(
        "submit",
        parents=[common],
        help="score a test folder into a Kaggle submission",
        description="Score a test folder into a Kaggle submission (DFDC: filename,label).",
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    submit.add_argument(
        "sources",
        nargs="+",
        metavar="DIR|ZIP|GLOB",
        help="where the videos are; a metadata.json with labels beside them gives a log-loss",
    )
    submit.add_argument(
        "--sample",
        metavar="CSV",
        help="sample_submission.csv: which names, in which order (default: all videos, sorted)",
    )
    submit.add_argument(
        "--out", default="submission.csv", metavar="CSV", help="default: submission.csv"
    )
    submit.add_argument(
        "--deadline",
        type=duration,
        metavar="8h30m",
        help="be done by then: with fewer seconds of each video, if need be, then with the prior",
    )
    submit.add_argument(
        "--clip",
        type=_share,
        nargs=2,
        default=[0.01, 0.99],
        metavar=("LOW", "HIGH"),
        help="bounds of what is written (default: 0.01 0.99): log-loss punishes certainty",
    )
    submit.add_argument(
        "--prior",
        type=_share,
        default=0.5,
        metavar="P",
        help="what videos without a score get (default: 0.5)",
    )
    submit.add_argument(
        "--workers",
        type=some,
        metavar="N",
        help="processes side by side, about 0.6 GB each (default: one a core)",
    )
    submit.add_argument(
        "--timeout",
        type=duration,
        default=120.0,
        metavar="2m",
        help="time for one video; it then gets a shorter look, then the prior (default: 2m)",
    )
    submit.add_argument(
        "--max-failed",
        type=_share,
        default=0.2,
        metavar="SHARE",
        help="exit with 1 when more than this share has no score (default: 0.2)",
    )
    add_limits(submit, memory=True)
    submit.set_defaults(run=_submit)


def _submit(options: argparse.Namespace) -> int:
    from avfake.bundle import load_bundle
    from avfake.sources import Sources
    from avfake.submission import KAGGLE_BUDGET, Sample, Settings, log_of, read_sample, submit
    from avfake.workers import Models, cores

    low, high = options.clip
    if low >= high:
        raise AvfakeError("usage", f"--clip {low} {high} leaves nothing between.")
    with Sources(options.sources) as sources:
        sample = read_sample(options.sample) if options.sample else Sample(tuple(sources.names()))
        count = len(set(sample.names))
        if not count:
            raise AvfakeError("not_found", f"There are no videos in {', '.join(options.sources)}.")
        bundle = load_bundle(options.bundle)
        workers = options.workers or min(cores(), count)
        limits = limits_of(options)
        settings = Settings(
            options.deadline, (low, high), options.prior, workers, options.timeout, limits
        )
        say = printer(options.json)
        budget = f"budget: {KAGGLE_BUDGET:.1f} s a video on Kaggle (9 h for 4,000)"
        if options.deadline is not None:
            budget += f", {options.deadline / count:.1f} s a video until the deadline"
        say(f"{count} videos, workers: {workers}, models: {bundle.name} {bundle.version}")
        say(budget)
        models = Models(options.bundle, threads=max(1, cores() // workers), limits=limits)
        try:
            with Teller() as teller:
                show = partial(_show, teller)
                outcome = submit(
                    sources, sample, options.out, bundle.sha256, models, settings, show
                )
        except KeyboardInterrupt:
            print("stopped; the same command goes on where it was", file=sys.stderr)
            raise
    log = log_of(options.out)
    if options.json:
        print_json(outcome.to_dict())
    else:
        held = len(outcome.failures)
        say(f"{options.out}: {outcome.total} videos, {outcome.total - held} scored")
        if held:
            say(f"  {held} hold the prior {options.prior:g} (why each: {log}):")
            for reason, number in outcome.counts.items():
                say(f"    {reason} {number}")
        if outcome.not_in_sample:
            say(f"  {len(outcome.not_in_sample)} videos are not in the sample, and left out")
        if outcome.judged:
            say(f"  {outcome.seconds / outcome.judged:.2f} s a video; {budget}")
        if outcome.losses is not None:
            clipped, exact = outcome.losses
            say(f"  log-loss {clipped:.4f} clipped to [{low:g}, {high:g}], {exact:.4f} unclipped,")
            say(f"  over the {outcome.labelled} labelled videos (0.5 everywhere is 0.6931)")
    if outcome.failed_share <= options.max_failed:
        return 0
    text = f"{outcome.failed_share:.0%} of the videos have no score; --max-failed allows"
    print(f"avfake: {text} {options.max_failed:.0%} [too_many_failed]", file=sys.stderr)
    return 1


def _show(teller: Teller, progress: Progress) -> None:
    facts = []
    if progress.seconds is not None and progress.left is not None:
        facts += [f"{progress.seconds:.2f} s a video", f"{span(progress.left)} to go"]
    if progress.failed:
        facts.append(f"{progress.failed} without a score")
    if progress.longest is not None:
        facts.append(f"time for the first {progress.longest:.1f} s of each")
    teller.tell(progress.done, progress.total, *facts)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number between 0 and 1")
    return value
