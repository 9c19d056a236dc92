"""Score the clips of a manifest: a row a clip with everything that the detector answered.

    python -m evaluation.score clips.csv --root FOLDER --bundle default --out scores.parquet
    python -m evaluation.score train_sample_videos.zip --out scores.parquet

Reads any manifest of `evaluation.protocols` and writes its score table, as Parquet or, by the
ending, CSV. Each clip's answer is kept in a journal beside it (`scores.parquet.jsonl`) as soon as
it is there: a run that was stopped goes on where it was. Each clip is judged in a worker process:
one that kills a decoder costs its own row. Clips that get no probability are counted and listed,
never given one. Ends with log-loss and AUC, fused and by modality; the whole page is
`python -m evaluation.report`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from avfake.bundle import Bundle, load_bundle
from avfake.fusion import Fusion
from avfake.lines import writing
from avfake.types import AvfakeError, BranchScore, Prediction, probability
from avfake.workers import Job, Models, cores, judge_each
from evaluation.journal import kept
from evaluation.media import Media
from evaluation.metrics.classification import PRIOR_LOG_LOSS, auc, log_loss
from evaluation.metrics.intervals import grouped_interval
from evaluation.protocols import (
    MODALITIES,
    SCORES,
    TableError,
    join,
    probability_of,
    read_manifest,
    read_scores,
    select,
    truth_of,
    write_table,
)

Judging = Callable[[Iterable[Job]], Iterable[tuple[Job, Prediction]]]
"""What answers jobs, as `avfake.workers.judge_each` does."""


def score(
    manifest: pd.DataFrame,
    media: Media,
    bundle: Bundle,
    judging: Judging,
    out: Path,
    timeout: float = 600.0,
) -> pd.DataFrame:
    """Score what neither `out` nor its journal holds yet; write and return the score table.

    `judging` answers with the models of `bundle`; `timeout` is seconds a clip. What ended in an
    error is tried again: the file may be there by now. Raises TableError where `out` holds the
    scores of other models, AvfakeError `not_writable`.
    """
    if out.is_dir():
        raise TableError(f"{out} is a folder: name the file to write.")
    rows = {row["path"]: row for row in _known(out, bundle.sha256)}
    fusion = Fusion(bundle)
    done = {path for path, row in rows.items() if row["status"] != "error"}
    todo = [path for path in manifest["path"] if path not in done]
    under_way: dict[Job, tuple[str, ExitStack]] = {}
    journal = out.with_name(out.name + ".jsonl")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        file = journal.open("a")
    with file, Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("scoring", total=len(todo))

        def keep(path: str, prediction: Prediction) -> None:
            rows[path] = score_row(path, prediction, fusion, bundle.sha256)
            file.write(json.dumps(rows[path]) + "\n")
            file.flush()
            progress.advance(task)

        def jobs() -> Iterator[Job]:
            for path in todo:
                unpacked = ExitStack()
                try:
                    place = unpacked.enter_context(media.file(path))
                except AvfakeError as error:
                    keep(path, Prediction(path, "error", error.reason, str(error)))
                    continue
                job = Job(place, timeout=timeout)
                under_way[job] = path, unpacked
                yield job

        for job, prediction in judging(jobs()):
            path, unpacked = under_way.pop(job)
            unpacked.close()
            keep(path, prediction)
    # In the manifest's order, whoever was through first; then what an earlier run had.
    order = dict.fromkeys([*manifest["path"], *rows])
    table = pd.DataFrame([rows[path] for path in order], columns=list(SCORES))
    write_table(table, out)
    journal.unlink()
    return read_scores(out)


def score_row(path: str, prediction: Prediction, fusion: Fusion, bundle: str) -> dict[str, Any]:
    """One row of a score table (SCORES), as JSON would hold it; None for what is not there."""
    answer = prediction.to_dict()
    media = answer["media"] or {}
    row: dict[str, Any] = {
        "path": path,
        **{name: answer[name] for name in ("status", "reason", "fake_probability", "verdict")},
        "segments": json.dumps(answer["segments"]),
        **{name: media.get(name) for name in ("duration", "width", "height", "fps")},
        "seconds": answer["seconds"].get("total"),
        "bundle": bundle,
    }
    for name, branch in prediction.branches.items():
        without = fusion.fuse({**prediction.branches, name: BranchScore.absent("left_out")})
        row |= {
            f"{name}_status": branch.status,
            f"{name}_reason": branch.reason,
            f"{name}_logit": branch.logit,
            f"{name}_probability": None if branch.logit is None else probability(branch.logit),
            f"{name}_windows": json.dumps([window.to_dict() for window in branch.windows]),
            f"without_{name}": None if without is None else probability(without),
        }
    if "lipsync" in prediction.branches:
        row["lipsync_offset_ms"] = prediction.branches["lipsync"].details.get("offset_ms")
    return {name: row.get(name) for name in SCORES}


def _known(out: Path, bundle: str) -> list[dict[str, Any]]:
    """Rows of an earlier run: its table's and, where it was stopped, its journal's."""
    rows: list[dict[Any, Any]] = []
    if out.exists():
        table = read_scores(out)[list(SCORES)].astype(object)
        rows += table.where(table.notna(), None).to_dict("records")
    rows += kept(out.with_name(out.name + ".jsonl"))
    if any(row.get("bundle") != bundle for row in rows):
        raise TableError(f"{out} holds scores of other models: score into another file.")
    return rows


def figures(table: pd.DataFrame) -> pd.DataFrame:
    """One row a modality of joined scores: clips, coverage, log-loss, AUC with 95% interval."""
    rows = []
    for name in MODALITIES:
        truth, own = truth_of(table, name)
        answers = probability_of(table, name)
        known = truth.notna() & answers.notna()
        label, value = truth[known].to_numpy(float), answers[known].to_numpy(float)
        low, high = grouped_interval(label, value, table["group"][known].to_numpy(), auc)
        rows.append(
            {
                "modality": name,
                "against": "its own label" if own else "the clip's label",
                "clips": int(known.sum()),
                "coverage": float(known.sum() / max(1, truth.notna().sum())),
                "log_loss": log_loss(label, value),
                "auc": auc(label, value),
                "auc_low": low,
                "auc_high": high,
            }
        )
    return pd.DataFrame(rows)


def show(table: pd.DataFrame, missing: list[str], console: Console) -> None:
    """The figures and what could not be judged, for people."""
    shown = Table(box=None, pad_edge=False)
    for name in ("modality", "against", "clips", "coverage", "log-loss", "AUC", "95% interval"):
        shown.add_column(name, justify="left" if name in ("modality", "against") else "right")
    for row in figures(table).to_dict("records"):
        numbers = [row["log_loss"], row["auc"]]
        interval = f"{row['auc_low']:.2f} to {row['auc_high']:.2f}"
        shown.add_row(
            row["modality"],
            row["against"],
            str(row["clips"]),
            f"{row['coverage']:.0%}",
            *("-" if np.isnan(value) else f"{value:.3f}" for value in numbers),
            "-" if np.isnan(row["auc_low"]) else interval,
        )
    console.print(shown)
    console.print(f"0.5 everywhere would score {PRIOR_LOG_LOSS:.4f}. '-': needs both classes.")
    failed = table[table["status"] != "ok"]
    if len(failed):
        console.print(f"{len(failed)} of {len(table)} clips got no probability:")
    for row in failed.to_dict("records"):
        console.print(Text(f"  {row['path']}: {row['status']}, {row['reason']}"))
    if missing:
        console.print(f"{len(missing)} clips of the manifest are not among the scores.")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.score",
        description=__doc__.split("\n")[0],
        epilog="exit status: 0 done, 1 no clip got a probability, 2 wrong usage",
    )
    parser.add_argument(
        "manifest", type=Path, help="CSV, TSV, Parquet, or a folder or zip with metadata.json"
    )
    parser.add_argument(
        "--root", type=Path, help="folder or zip that its paths are in (default: the manifest's)"
    )
    parser.add_argument("--bundle", default="default", help="name or folder of the models")
    parser.add_argument("--out", type=Path, required=True, help="scores.parquet or scores.csv")
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE", help="only these rows"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes, 0 for one a core")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one clip")
    options = parser.parse_args(arguments)
    try:
        manifest = select(read_manifest(options.manifest), options.where)
        media = Media.of(options.manifest, options.root)
        bundle = load_bundle(options.bundle)
        workers = min(options.workers or cores(), len(manifest))
        models = Models(options.bundle, threads=max(1, cores() // workers))
        judging = partial(judge_each, load=models, workers=workers)
        scores = score(manifest, media, bundle, judging, options.out, options.timeout)
        table, missing = join(scores, manifest)
    except (AvfakeError, TableError) as error:
        print(f"evaluation.score: {error}", file=sys.stderr)
        sys.exit(2)
    show(table, missing, Console(highlight=False))
    if table["fake_probability"].isna().all():
        sys.exit(1)


if __name__ == "__main__":
    main()
