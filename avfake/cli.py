"""The `avfake` command."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from avfake import __version__
from avfake.types import AvfakeError

if TYPE_CHECKING:
    from avfake.bundle import Bundle
    from avfake.submission import Progress

DESCRIPTION = """\
How likely is this video a deepfake? avfake looks at the faces, listens to the voice and checks
whether the lips fit the sound, and gives one calibrated probability with the reasons behind it.
Everything runs on this machine; nothing is sent anywhere."""
PREDICT_NOTES = """\
examples:
  avfake predict clip.mp4                    a verdict, with each branch second by second
  avfake predict *.mp4 --json > out.jsonl    one JSON object a line
  avfake predict voice.wav portrait.jpg      sound files and still images work too

exit status: 0 all files were judged, 1 some were not (each says why), 2 wrong usage

A probability is no proof: treat "likely fake" as a reason to look closer. It is what
holds where every second clip is a fake; where fakes are rarer, so is the truth of an alarm."""


SUBMIT_NOTES = """\
examples:
  avfake submit test_videos --sample sample_submission.csv --deadline 8h30m
  avfake submit train_sample_videos.zip      its metadata.json gives a local log-loss, too

The submission is complete and valid from the first second on: each row holds the prior until its
video is scored. submission.log.jsonl says what happened to each. A run that was stopped goes on
where it was when the same command is given again.

exit status: 0 done, 1 more than --max-failed of the rows hold the prior (or the run could not
begin), 2 wrong usage"""


SUBMIT_NOTES = """\
examples:
  avfake submit test_videos --sample sample_submission.csv --deadline 8h30m
  avfake submit train_sample_videos.zip      its metadata.json gives a local log-loss, too

The submission is complete and valid from the first second on: each row holds the prior until its
video is scored. submission.log.jsonl says what happened to each. A run that was stopped goes on
where it was when the same command is given again.

exit status: 0 done, 1 more than --max-failed of the videos have no score (or the run could not
begin), 2 wrong usage"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a bar or a file's name shows a question mark, no traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.CRITICAL,
        format="%(levelname)s %(name)s: %(message)s",
    )
    try:
        status: int = options.run(options)
    except AvfakeError as error:
        print(f"avfake: {error} [{error.reason}]", file=sys.stderr)
        return 2 if error.reason == "usage" else 1
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _predict(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.text import Text

    from avfake.detector import Detector
    from avfake.report import render

    if options.video:
        if len(options.paths) > 1:
            raise AvfakeError("usage", "--video marks one clip: give one FILE.")
        from avfake.markup import check_target

        check_target(options.video)
    detector = Detector.from_pretrained(options.bundle, options.face_model, options.threads)
    console = Console(highlight=False)
    status = 0
    waiting = Console(stderr=True)  # a spinner, where somebody is watching
    for path in options.paths:
        with waiting.status(Text(f"looking at {path}")):
            prediction = detector.predict(path)
        if prediction.status != "ok":
            status = 1
        if options.json:
            print(json.dumps(prediction.to_dict()), flush=True)
        else:
            console.print(render(prediction), soft_wrap=True)
        if options.video and prediction.media is not None:
            from avfake.markup import write_marked_video

            write_marked_video(prediction, options.video)
    return status


def _submit(options: argparse.Namespace) -> int:
    from avfake.batch import Models, cores
    from avfake.bundle import load_bundle
    from avfake.sources import Sources
    from avfake.submission import KAGGLE_BUDGET, Sample, Settings, log_of, read_sample, submit

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
        settings = Settings(options.deadline, (low, high), options.prior, workers, options.timeout)
        say = _quiet if options.json else _say
        budget = f"budget: {KAGGLE_BUDGET:.1f} s a video on Kaggle (9 h for 4,000)"
        if options.deadline is not None:
            budget += f", {options.deadline / count:.1f} s until the deadline"
        say(f"{count} videos, workers: {workers}, models: {bundle.name} {bundle.version}")
        say(budget)
        outcome = submit(
            sources,
            sample,
            options.out,
            bundle.sha256,
            Models(options.bundle, threads=max(1, cores() // workers)),
            settings,
            _Teller(),
        )
    log = log_of(options.out)
    if options.json:
        print(json.dumps(outcome.to_dict()))
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


def _say(line: str) -> None:
    print(line, flush=True)


def _quiet(line: str) -> None:
    """For --json: nothing but the object."""


class _Teller:
    """Progress on stderr: one line that is written over on a terminal, one a minute elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._every = 0.2 if self._terminal else 60.0
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        import time

        if time.monotonic() < self._next and progress.done < progress.total:
            return
        self._next = time.monotonic() + self._every
        parts = [f"{progress.done}/{progress.total}"]
        if progress.seconds is not None and progress.left is not None:
            parts += [f"{progress.seconds:.2f} s a video", f"{_span(progress.left)} to go"]
        if progress.failed:
            parts.append(f"{progress.failed} without a score")
        if progress.longest is not None:
            parts.append(f"time for the first {progress.longest:.1f} s of each")
        line = "  " + ", ".join(parts)
        last = progress.done == progress.total
        if self._terminal:
            print(f"\r{line:<79}", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def _span(seconds: float) -> str:
    """Seconds as people say them: 45 s, 12 min, 2 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _info(options: argparse.Namespace) -> int:
    from avfake.bundle import load_bundle, shipped_bundles

    facts = _facts(load_bundle(options.bundle), shipped_bundles())
    if options.json:
        print(json.dumps(facts))
        return 0
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in facts.items():
        lines = value if isinstance(value, list) else [value]
        if isinstance(value, dict):
            lines = [f"{key}: {entry}" for key, entry in value.items()]
        for number, line in enumerate(lines):
            table.add_row("" if number else name.replace("_", " "), Text(str(line)))
    Console(highlight=False).print(table, soft_wrap=True)
    return 0


def _facts(bundle: Bundle, shipped: list[str]) -> dict[str, Any]:
    import platform

    import av
    import dlib
    import onnxruntime

    from avfake.batch import cores
    from avfake.bundle import providers

    sizes = {
        name: f"{(bundle.folder / entry['file']).stat().st_size / 1e6:.2f} MB"
        for name, entry in bundle.manifest["graphs"].items()
    }
    own = bundle.has("finder")
    finders = ["bundled (default)"] if own else []
    finders += [f"dlib {dlib.__version__} ({'--face-model dlib' if own else 'default'})"]
    finders += ["yunet (--face-model FILE.onnx)"]
    return {
        "avfake": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "models": f"{bundle.name} {bundle.version}",
        "models_folder": str(bundle.folder),
        "models_sha256": bundle.sha256,
        "graphs": sizes,
        "thresholds": {
            "likely fake": f"from {bundle.threshold('likely_fake'):.3f}",
            "likely real": f"up to {bundle.threshold('likely_real'):.3f}",
        },
        "shipped_models": shipped,
        "face_finders": finders,
        "decoder": f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}",
        "inference": f"onnxruntime {onnxruntime.__version__}",
        "devices": [name.removesuffix("ExecutionProvider") for name in providers()],
        "cores": cores(),
    }


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("a count of cores is 0 or more")
    return value


def _some(text: str) -> int:
    if _count(text) == 0:
        raise argparse.ArgumentTypeError("it takes at least one worker")
    return int(text)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _duration(text: str) -> float:
    """Seconds of "8h30m", "45m", "90s" or "5400"."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip().lower())
    seconds = 0.0
    if match is not None:
        hours, minutes, rest = (float(part or 0) for part in match.groups())
        seconds = 3600 * hours + 60 * minutes + rest
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 8h30m, 45m or 90s")
    return seconds


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("avfake", description=DESCRIPTION, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"avfake {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--bundle",
        default="default",
        metavar="NAME|DIR",
        help="models to use: a name that ships with avfake, or a folder (default: default)",
    )
    common.add_argument("--json", action="store_true", help="print JSON instead of text")
    common.add_argument("--verbose", action="store_true", help="log what happens, to stderr")

    predict = commands.add_parser(
        "predict",
        parents=[common],
        help="score videos, sound files or still images",
        description="Score videos, sound files or still images.",
        epilog=PREDICT_NOTES,
        formatter_class=raw,
    )
    predict.add_argument("paths", nargs="+", metavar="FILE", help="what to score")
    predict.add_argument(
        "--face-model",
        metavar="FILE.onnx|dlib",
        help="find faces with this YuNet model, or dlib, instead of the bundle's own finder",
    )
    predict.add_argument(
        "--threads",
        type=_count,
        default=0,
        metavar="N",
        help="cores for the networks (default: all)",
    )
    predict.add_argument(
        "--video",
        metavar="OUT.mp4",
        help="also write the clip with its faces marked (one FILE only; extra 'report')",
    )
    predict.set_defaults(run=_predict)

    submit = commands.add_parser(
        "submit",
        parents=[common],
        help="score a test folder into a Kaggle submission",
        description="Score a test folder into a Kaggle submission (DFDC: filename,label).",
        epilog=SUBMIT_NOTES,
        formatter_class=raw,
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
        type=_duration,
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
        type=_some,
        metavar="N",
        help="processes side by side, about 0.6 GB each (default: one a core)",
    )
    submit.add_argument(
        "--timeout",
        type=_duration,
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
    submit.set_defaults(run=_submit)

    info = commands.add_parser(
        "info",
        parents=[common],
        help="what is installed: models, face finders, devices",
        description="What is installed: models, face finders, devices.",
    )
    info.set_defaults(run=_info)
    return parser


if __name__ == "__main__":
    sys.exit(main())
