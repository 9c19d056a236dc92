"""The command `avfake batch`: its options, its progress and what it says in the end."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from avfake.cli_common import Teller, add_face_model, counted, duration, printer, some, span
from avfake.cli_limits import add_limits, limits_of
from avfake.terminal import visible
from avfake.types import AvfakeError

if TYPE_CHECKING:
    from avfake.batch import Engine, Outcome, Progress
    from avfake.bundle import Bundle
    from avfake.scores import Row
    from avfake.sources import Files

NOTES = """\
examples:
  avfake batch clips --out scores.jsonl               all files in a folder, one row each
  avfake batch clips --out scores.jsonl --resume      go on after a stop, a kill or a full disk
  avfake batch '*.mp4' more.zip --out scores/         shards of 10,000 rows
  find . -name '*.mp4' | avfake batch --list - --out scores.jsonl --brief

Each file is judged in a worker process, on one thread: a score depends on nothing but the file, and
one that crashes, stalls or fills its worker is tried once more, then set aside ("quarantined") with
the reason. A row is what `avfake predict --json` prints, the file's size and the settings; it is
written as soon as it is there. With --resume rows stay, but for those of files whose size has
changed: these are judged again. Time-out and limits, but for --max-seconds, may change meanwhile.

exit status: 0 every file has a score, 1 some have none (or the run could not begin), 2 wrong usage,
130 stopped by Ctrl-C"""


def add_batch(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to argparse's `commands`; `common` holds the options that all share."""
    batch = commands.add_parser(
        "batch",
        parents=[common],
        help="score any number of files, whatever they do",
        description="Score any number of files into JSON lines, whatever they do.",
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    batch.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="files, folders (with their subfolders), zips, globs",
    )
    batch.add_argument(
        "--list", metavar="FILE", help="a file that names more files, one a line; - for stdin"
    )
    batch.add_argument(
        "--out",
        required=True,
        metavar="FILE|DIR/",
        help="where the rows go: one file, or shards of 10,000 rows in a folder",
    )
    batch.add_argument(
        "--workers",
        type=some,
        metavar="N",
        help="processes side by side, about 0.6 GB each (default: one a core)",
    )
    batch.add_argument(
        "--timeout",
        type=duration,
        default=60.0,
        metavar="1m",
        help="time for one file, of which it gets as much again for a second attempt (default: 1m)",
    )
    batch.add_argument(
        "--resume", action="store_true", help="go on with the rows that are in --out already"
    )
    batch.add_argument(
        "--retry-errors",
        action="store_true",
        help="the same, and judge files again whose rows are errors",
    )
    batch.add_argument(
        "--brief",
        action="store_true",
        help="leave boxes and windows out of the rows: about 1 kB each",
    )
    add_face_model(batch)
    elsewhere = batch.add_argument_group("beyond this machine (pip install 'avfake[scale]')")
    elsewhere.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="what the workers are: processes of this machine (the default), or a Ray cluster's",
    )
    elsewhere.add_argument(
        "--address",
        metavar="HOST:PORT|auto",
        help="with --engine ray: the cluster, of which this machine is a node; all nodes must see "
        "the files under the same names, and TMPDIR where there are zips (default: a Ray of this "
        "machine's own)",
    )
    elsewhere.add_argument(
        "--fetch",
        default="",
        metavar="https,s3",
        help="take INPUTs and lines of --list for addresses if they begin with one of these, and "
        "fetch them",
    )
    add_limits(batch, memory=True)
    batch.set_defaults(run=_batch)


def _batch(options: argparse.Namespace) -> int:
    from avfake.batch import run
    from avfake.bundle import load_bundle
    from avfake.scores import Scores

    say = printer(options.json)
    with ExitStack() as opened:
        files = opened.enter_context(_files(options))
        bundle = load_bundle(options.bundle)
        scores = opened.enter_context(
            Scores(
                options.out,
                bundle.sha256,
                _settings(options, bundle),
                options.resume or options.retry_errors,
                partial(_is_stale, files, options.retry_errors),
            )
        )
        engine, workers = _engine(options)
        say(f"models: {bundle.name} {bundle.version}, workers: {workers}")
        try:
            with Teller() as teller:
                outcome = run(
                    files,
                    scores,
                    engine,
                    bundle.to_dict(),
                    options.timeout,
                    limits_of(options),
                    options.brief,
                    partial(_show, teller),
                )
        except KeyboardInterrupt:
            print("stopped; the same command with --resume goes on", file=sys.stderr)
            raise
        except AvfakeError as error:
            if error.reason not in ("not_writable", "cluster_lost"):
                raise
            text = f"{error} The rows before are whole; the same command with --resume goes on."
            raise AvfakeError(error.reason, text) from None
    if options.json:
        print(json.dumps(outcome.to_dict()))
    else:
        for line in _summary(options.out, outcome):
            say(line)
    return 0 if outcome.count("ok") == outcome.total else 1


def _files(options: argparse.Namespace) -> Files:
    from avfake.sources import Files

    if not options.inputs and options.list is None:
        raise AvfakeError("usage", "Nothing to judge: give INPUTs, or --list FILE.")
    listed = None if options.list is None else _open_list(options.list)
    urls: list[str] = []
    if options.fetch:
        from avfake.remote import is_url, protocols

        allowed = protocols(options.fetch)
        urls = [one for one in options.inputs if is_url(one, allowed)]
    try:
        files = Files([one for one in options.inputs if one not in urls], listed, urls)
    except AvfakeError as error:  # a name that was mistyped
        raise AvfakeError("usage", str(error)) from None
    if next(iter(files), None) is None:
        where = ", ".join([*options.inputs, *([options.list] if options.list else [])])
        raise AvfakeError("usage", f"There are no files in {where}.")
    return files


def _open_list(name: str) -> IO[bytes]:
    """The list, as a file that can be read more than once."""
    try:
        file = sys.stdin.buffer if name == "-" else open(name, "rb")  # noqa: SIM115
        if file.seekable():
            return file
        with file:
            kept = tempfile.TemporaryFile()  # noqa: SIM115
            shutil.copyfileobj(file, kept)
        return kept
    except OSError as error:
        raise AvfakeError("usage", f"The list {name} cannot be read: {error.strerror}.") from None


def _engine(options: argparse.Namespace) -> tuple[Engine, int]:
    """What judges the files, and how many at a time."""
    from avfake.bundle import shipped_bundles
    from avfake.workers import Judge, Models, cores, judge_each

    if options.address is not None and options.engine != "ray":
        raise AvfakeError("usage", "--address is of a Ray cluster: add --engine ray.")
    if options.address is not None and options.workers is None:
        raise AvfakeError("usage", "--address needs --workers: as many CPUs of it are taken.")
    workers = options.workers or cores()
    limits = limits_of(options)
    # One thread, so that sums are the same whatever else this machine does.
    models = Models(options.bundle, options.face_model, threads=1, limits=limits)
    load: Callable[[], Judge] = models
    if options.engine == "ray":  # its workers are in another folder
        names = [*shipped_bundles(), "dlib"]
        bundle, finder = (
            one if one is None or one in names else os.path.abspath(one)
            for one in (models.bundle, models.face_model)
        )
        load = replace(models, bundle=bundle or models.bundle, face_model=finder)
    if options.fetch:
        from avfake.remote import Fetching, protocols

        load = Fetching(load, protocols(options.fetch), limits.bytes)
    given: dict[str, Any] = {
        "load": load,
        "workers": workers,
        "memory": limits.memory,
        "attempts": 2,
    }
    if options.engine == "ray":
        from avfake.cluster import judge_on_cluster

        return partial(judge_on_cluster, **given, address=options.address, tell=_aside), workers
    return partial(judge_each, **given), workers


def _aside(line: str) -> None:
    """Say something beside the progress, on a line of its own."""
    print(f"\n{line}" if sys.stderr.isatty() else line, file=sys.stderr, flush=True)


def _settings(options: argparse.Namespace, bundle: Bundle) -> dict[str, Any]:
    """What a score depends on besides the file and the bundle."""
    import hashlib

    from avfake import __version__

    finder = options.face_model
    if finder is not None:
        from avfake.faces import load_finder

        load_finder(finder, bundle)  # says what is wrong with it before anything is written
        if finder != "dlib":
            with open(finder, "rb") as file:
                finder = hashlib.file_digest(file, "sha256").hexdigest()
    seconds = limits_of(options).seconds
    return {"avfake": __version__, "face_model": finder, "max_seconds": seconds}


def _is_stale(files: Files, errors: bool, name: str, member: str | None, row: Row) -> bool:
    """Whether a row is to be made anew, if its file is among those that were given."""
    if errors and row["status"] == "error":
        return True
    return files.size(name, member) not in (None, row["size"])


def _show(teller: Teller, progress: Progress) -> None:
    facts = []
    if progress.rate is not None and progress.left is not None:
        pace = f"{progress.rate:.1f} a second"
        if progress.rate < 1:
            pace = f"{1 / progress.rate:.1f} s a file"
        facts.append(pace)
        if progress.left:
            facts.append(f"{span(progress.left)} to go")
    if progress.unscored:
        facts.append(f"{progress.unscored:,} without a score")
    teller.tell(progress.done, progress.total, *facts)


def _summary(out: str, outcome: Outcome) -> list[str]:
    scored = outcome.count("ok")
    lines = [f"{out}: {counted(outcome.total, 'file')}, {scored:,} scored"]
    if outcome.kept or outcome.renewed:
        lines.append(f"  had a row before: {outcome.kept:,}, judged now: {outcome.judged:,}")
    if outcome.judged:
        lines.append(f"  {span(outcome.seconds)}, {outcome.seconds / outcome.judged:.2f} s a file")
    for status in ("abstain", "error"):
        if count := outcome.count(status):
            lines.append(f"  {count:,} {status}:")
            lines += [
                f"    {reason} {number:,}"
                for (other, reason), number in outcome.answers.most_common()
                if other == status
            ]
    if outcome.quarantined:
        lines.append("  in quarantine, for they did it to every worker that they had:")
        lines += [f"    {visible(path)}: {reason}" for path, reason in outcome.quarantined]
    if (more := outcome.in_quarantine - len(outcome.quarantined)) > 0:
        lines.append(f"    {more:,} more: their rows say quarantined")
    return lines
