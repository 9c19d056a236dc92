"""What wear does to the answers: the same clips, corrupted in many ways at rising levels.

    python -m evaluation.robustness manifest.csv --root FOLDER --bundle default --out DIR \\
        [--only h264 blur late ...] [--levels 1,3,5]

Every clip is scored as it is, and then through each corruption of `evaluation.corruptions` at each
level; the corrupted clips lie in a temporary folder no longer than they are scored. Each answer is
kept in `DIR/journal.jsonl` at once: a run that was stopped goes on where it was. Then come
`robustness.csv` and `robustness.json`, a row a corruption, level and modality: AUC and log-loss
with 95% intervals over people, false alarms on real clips at the bundle's `likely_fake`, coverage,
and the change against the clean clips of the same run, paired clip by clip; and `robustness.png`.

Corruptions of pictures leave out sound files and still images, those of sound leave out silent
clips: `clips` counts what each row is about. "recoded" is the control: written anew like all the
others, and otherwise unchanged.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from avfake.bundle import Bundle
from avfake.detector import Detector
from avfake.lines import writing
from avfake.types import BRANCHES, AvfakeError, Prediction
from evaluation.corruptions import CORRUPTIONS, Source
from evaluation.journal import kept
from evaluation.media import Media
from evaluation.metrics.classification import auc, log_loss
from evaluation.metrics.intervals import grouped_interval, paired_interval
from evaluation.protocols import (
    MODALITIES,
    TableError,
    probability_of,
    read_manifest,
    select,
    truth_of,
    write_table,
)
from evaluation.robustness_plot import plot

CLEAN = "clean"
LEVELS = (1, 2, 3, 4, 5)
WIDTH = 100  # of the table, in letters
ANSWER = [
    *("path", "corruption", "level", "status", "reason", "fake_probability"),
    *(f"{branch}_probability" for branch in BRANCHES),
    "seconds",
]
Trial = tuple[str, int]
"""A corruption's name and a level; ("clean", 0) is the clip as it is."""

log = logging.getLogger(__name__)


class Judge(Protocol):
    """What is put to the test: `Detector` or its like."""

    bundle: Bundle

    def predict(self, path: Path, /) -> Prediction: ...


def trials(names: Sequence[str], levels: Sequence[int]) -> list[Trial]:
    """The clean clip, and all corruptions at these levels; a lone level is always among them."""
    found = [(CLEAN, 0)]
    for name in names:
        there = range(1, len(CORRUPTIONS[name].values) + 1)
        found += [(name, level) for level in there if level in levels or len(there) == 1]
    return found


def run(
    manifest: pd.DataFrame, media: Media, judge: Judge, wanted: Sequence[Trial], journal: Path
) -> pd.DataFrame:
    """Score what the journal does not hold yet; the wanted answers, a row a clip and trial. What
    ended in an error is tried again.

    Status is that of the prediction, "error" also where the clip could not be corrupted, or
    "absent" where the corruption has nothing to work on. Raises TableError where the journal holds
    answers of other models.
    """
    rows = _known(journal, judge.bundle.sha256)
    done = {(row["path"], row["corruption"], row["level"]) for row in rows}
    console = Console(stderr=True)
    with journal.open("a") as file, Progress(console=console) as progress:
        if not journal.stat().st_size:
            file.write(json.dumps({"bundle": judge.bundle.sha256}) + "\n")
        for path in progress.track(list(manifest["path"]), description="corrupting and scoring"):
            todo = [trial for trial in wanted if (path, *trial) not in done]
            for row in _tried(path, media, judge, todo) if todo else ():
                rows.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()
    asked = {(path, *trial) for path in manifest["path"] for trial in wanted}
    answers = [row for row in rows if (row["path"], row["corruption"], row["level"]) in asked]
    return pd.DataFrame(answers, columns=ANSWER)


def _tried(
    path: str, media: Media, judge: Judge, todo: Sequence[Trial]
) -> Iterator[dict[str, Any]]:
    source: Source | AvfakeError | None = None
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        try:
            place = stack.enter_context(media.file(path))
        except AvfakeError as error:
            lost = {"path": path, "status": "error", "reason": error.reason}
            yield from (lost | {"corruption": name, "level": level} for name, level in todo)
            return
        for name, level in todo:
            row = {"path": path, "corruption": name, "level": level}
            if name == CLEAN:
                yield row | _answer(judge.predict(place))
                continue
            if source is None:
                source = _source(place, Path(folder), path)
            if isinstance(source, AvfakeError):
                yield row | {"status": "error", "reason": source.reason}
            elif (reason := source.lacks(CORRUPTIONS[name])) is not None:
                yield row | {"status": "absent", "reason": reason}
            else:
                yield row | _corrupted(source, name, level, judge)


def _source(place: Path, folder: Path, path: str) -> Source | AvfakeError:
    try:
        return Source(place, folder, zlib.crc32(path.encode()))
    except AvfakeError as error:
        return error


def _corrupted(source: Source, name: str, level: int, judge: Judge) -> dict[str, Any]:
    try:
        made = source.corrupted(CORRUPTIONS[name], level)
    except Exception as error:  # one clip that cannot be written must not cost the others
        log.exception("%s, %s at level %d", source.path, name, level)
        return {"status": "error", "reason": f"not_written: {type(error).__name__}"}
    return _answer(judge.predict(made))


def _answer(prediction: Prediction) -> dict[str, Any]:
    answer = prediction.to_dict()
    branches = answer["branches"]
    return {
        "status": answer["status"],
        "reason": answer["reason"],
        "fake_probability": answer["fake_probability"],
        **{
            f"{name}_probability": branches.get(name, {}).get("fake_probability")
            for name in BRANCHES
        },
        "seconds": answer["seconds"].get("total"),
    }


def _known(journal: Path, bundle: str) -> list[dict[str, Any]]:
    rows = kept(journal)
    if rows and rows[0].get("bundle") != bundle:
        raise TableError(f"{journal} holds answers of other models: take another folder.")
    return [row for row in rows[1:] if row["status"] != "error"]


def figures(answers: pd.DataFrame, manifest: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """A row a corruption, level and modality.

    `clips` that the corruption concerns and whose truth is known, `coverage` the share of them
    with an answer; AUC, log-loss and false alarms (share of the real at or above `threshold`; of
    the fused answer only) over those, with 95% intervals. `clean_*` are of the same clips, as
    they are; `*_change` is corrupted minus clean, over clips with both answers.
    """
    numbers = [name for name in ANSWER if name.endswith("_probability")]
    answers = answers.astype(dict.fromkeys(numbers, float))
    table = answers.merge(manifest, on="path", validate="many_to_one")
    clean = table[table["corruption"] == CLEAN].set_index("path")
    rows = []
    for name, level in trials(list(CORRUPTIONS), LEVELS):
        tried = table[(table["corruption"] == name) & (table["level"] == level)]
        if tried.empty:
            continue
        part = tried[tried["status"] != "absent"]
        for modality in MODALITIES:
            truth, own = truth_of(table, modality)
            label = truth.loc[part.index]
            before = clean.reindex(part["path"])
            rows.append(
                _described(name, level)
                | {"modality": modality, "against": "its own label" if own else "the clip's label"}
                | _measured(
                    label.to_numpy(float),
                    probability_of(part, modality).to_numpy(float),
                    probability_of(before, modality).to_numpy(float),
                    part["group"].to_numpy(),
                    threshold if modality == "fused" else None,
                )
            )
    return pd.DataFrame(rows)


def _described(name: str, level: int) -> dict[str, Any]:
    if name == CLEAN:
        return dict(zip(_WHAT, (CLEAN, "", 0, 0, np.nan, ""), strict=True))
    one = CORRUPTIONS[name]
    about = (name, one.stream, level, len(one.values), one.values[level - 1], one.unit)
    return dict(zip(_WHAT, about, strict=True))


_WHAT = ("corruption", "stream", "level", "levels", "value", "unit")


def _measured(
    label: np.ndarray,
    now: np.ndarray,
    before: np.ndarray,
    group: np.ndarray,
    threshold: float | None,
) -> dict[str, Any]:
    asked = ~np.isnan(label)
    known = asked & ~np.isnan(now)
    both = known & ~np.isnan(before)

    def alarms(label: np.ndarray, score: np.ndarray) -> float:
        real = score[label == 0]
        return float(np.mean(real >= threshold)) if len(real) else float("nan")

    wanted: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "auc": auc,
        "log_loss": log_loss,
    }
    if threshold is not None:
        wanted["false_alarms"] = alarms
    row: dict[str, Any] = {
        "clips": int(asked.sum()),
        "real": int((label[known] == 0).sum()),
        "fake": int((label[known] == 1).sum()),
        "coverage": known.sum() / asked.sum() if asked.any() else float("nan"),
    }
    for name, figure in wanted.items():
        row[name] = figure(label[known], now[known])
        row[f"{name}_low"], row[f"{name}_high"] = grouped_interval(
            label[known], now[known], group[known], figure
        )
        pair = label[both], now[both], before[both]
        row[f"clean_{name}"] = figure(pair[0], pair[2])
        row[f"{name}_change"] = figure(pair[0], pair[1]) - row[f"clean_{name}"]
        row[f"{name}_change_low"], row[f"{name}_change_high"] = paired_interval(
            *pair, group[both], figure
        )
    return row


def show(table: pd.DataFrame, console: Console) -> None:
    """The fused rows for people; the CSV has the branches, too."""
    shown = Table(box=None, pad_edge=False)
    for name in (
        "corruption",
        "level",
        "",
        "clips",
        "AUC",
        "change",
        "log-loss",
        "alarms",
        "cover",
    ):
        shown.add_column(name, justify="left" if name in ("corruption", "") else "right")
    for row in table[table["modality"] == "fused"].to_dict("records"):
        clean = row["corruption"] == CLEAN
        shown.add_row(
            row["corruption"],
            "" if clean else f"{row['level']} of {row['levels']}",
            f"{row['value']:g} {row['unit']}" if row["levels"] > 1 else row["unit"],
            str(row["clips"]),
            _number(row["auc"], row["auc_low"], row["auc_high"]),
            "" if clean else _number(row["auc_change"], sign="+"),
            _number(row["log_loss"]),
            "-" if np.isnan(row["false_alarms"]) else f"{row['false_alarms']:.0%}",
            "-" if np.isnan(row["coverage"]) else f"{row['coverage']:.0%}",
        )
    console.print(shown)
    console.print("'-': needs both classes, or clips that the corruption concerns.")


def _number(value: float, low: float = np.nan, high: float = np.nan, sign: str = "") -> str:
    text = "-" if np.isnan(value) else f"{value:{sign}.2f}"
    return text if np.isnan(low) else f"{text} ({low:.2f}-{high:.2f})"


def records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """The rows as JSON holds them: None for NaN."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.robustness", description=__doc__.split("\n")[0]
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument(
        "--root", type=Path, help="folder or zip that its paths are in (default: the manifest's)"
    )
    parser.add_argument("--bundle", default="default", help="name or folder of the models")
    parser.add_argument("--out", type=Path, required=True, help="folder for journal and figures")
    parser.add_argument(
        "--only",
        nargs="+",
        default=list(CORRUPTIONS),
        choices=list(CORRUPTIONS),
        metavar="NAME",
        help="of: " + ", ".join(CORRUPTIONS),
    )
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE", help="only these rows"
    )
    parser.add_argument("--levels", default="1,2,3,4,5", metavar="1,3,5")
    parser.add_argument("--threads", type=int, default=0, help="cores for the nets, 0 for all")
    options = parser.parse_args(arguments)
    try:
        levels = [int(level) for level in options.levels.split(",")]
    except ValueError:
        levels = []
    if not levels or not set(levels) <= set(LEVELS):
        parser.error(f"--levels are some of 1,2,3,4,5, not {options.levels!r}")
    try:
        manifest = select(read_manifest(options.manifest), options.where)
        media = Media.of(options.manifest, options.root)
        judge = Detector.from_pretrained(options.bundle, threads=options.threads)
        with writing(options.out):
            options.out.mkdir(parents=True, exist_ok=True)
        wanted = trials([name for name in CORRUPTIONS if name in options.only], levels)
        answers = run(manifest, media, judge, wanted, options.out / "journal.jsonl")
    except (AvfakeError, TableError) as error:
        parser.error(str(error))
    table = figures(answers, manifest, judge.bundle.threshold("likely_fake"))
    write_table(table, options.out / "robustness.csv")
    report = {
        "bundle": judge.bundle.to_dict(),
        "threshold": judge.bundle.threshold("likely_fake"),
        "rows": records(table),
    }
    part = options.out / "robustness.json.part"
    part.write_text(json.dumps(report, indent=1))
    os.replace(part, options.out / "robustness.json")
    plot(table, options.out / "robustness.png")
    console = Console()
    show(table, console if console.width >= WIDTH else Console(width=WIDTH))
    if not (answers["status"] == "ok").any():
        print("None of the clips could be judged; journal.jsonl says why.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
