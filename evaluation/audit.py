"""Is there a short cut through this data set? Ask before training on it or believing a figure.

    python -m evaluation.audit manifest.csv --root FOLDER [--out audit.json] [--workers 4]
        [--where COLUMN=VALUE]
    python -m evaluation.audit train_sample_videos.zip

Looks for four kinds of leak: people in two of train, val and test; files that are there twice,
across splits; labels that contradict each other; and metadata (duration, size, codecs, silences,
...) that tells real from fake. Prints what it found and a verdict, and writes all of it to --out;
what it read of each file is kept beside that in `audit.facts.jsonl`, so that a second run is short.

Different sets in one table are told apart by their format alone: audit them one by one (--where).
Duplicates are files of the same bytes, or whose sound and pictures are decoded to the same (other
tags, MP4 as MOV); a clip that was compressed anew is not recognised. A label conflict is a
file, or two that are the same, with different labels, or a label that its modalities contradict.

Exit status: 0 nothing leaks, 1 something does, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from avfake.lines import writing
from avfake.types import AvfakeError
from evaluation.facts import Facts, read_all
from evaluation.leaks import contradictions, disagreeing, repeated, shared_names
from evaluation.media import Media
from evaluation.probe import FEATURES, FEWEST, FOLDS, Separation, separations
from evaluation.protocols import LABELS, TableError, read_manifest, select

APART = ("train", "val", "test")
ABOVE = 0.6
SHOWN = 5  # examples of a fault on the terminal; the JSON has all


@dataclass(frozen=True)
class Audit:
    """What was found. `leaks`: a sentence each, empty for a clean data set; `notes`: what the
    reader should know besides. The lists hold everything, JSON-ready.
    """

    clips: int
    labels: dict[str, dict[str, int]]  # of each label, how many are real, fake, unknown
    unread: list[dict[str, Any]]  # path, reason, message
    damaged: list[dict[str, Any]]  # path, warnings
    identities: list[dict[str, Any]]  # name, splits, clips
    duplicates: list[dict[str, Any]]  # kind, paths, splits, labels
    conflicts: list[dict[str, Any]]  # paths, what
    separations: dict[str, list[Separation]]  # of each label; none where there are too few clips
    above: float  # the bound beyond which a separation leaks
    leaks: list[str]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        return {"clean": not self.leaks, **asdict(self)}


def audit(
    manifest: pd.DataFrame,
    media: Media,
    facts: Sequence[Facts],
    apart: Sequence[str] = APART,
    above: float = ABOVE,
    draws: int = 500,
) -> Audit:
    """Audit a table of `read_manifest`, of files of `media`, with the facts of its rows, in their
    order.

    `apart`: the splits that must share nobody and nothing; `above`: metadata leaks where the lower
    bound of an AUC's 95% interval is above this; `draws` of the bootstrap.
    """
    manifest = manifest.reset_index(drop=True)
    identities = shared_names(manifest, apart)
    duplicates = repeated(manifest, media, facts)
    for entry in duplicates:
        entry["leaks"] = len(set(entry["splits"]) & set(apart)) > 1
    conflicts = [*contradictions(manifest), *disagreeing(manifest, duplicates)]
    probed = _probed(manifest, facts, draws)
    leaks, notes = [], []
    if identities:
        who = _many(len(identities), "person or group is", "people or groups are")
        leaks.append(f"{who} in more than one split.")
    if across := [entry for entry in duplicates if entry["leaks"]]:
        leaks.append(_many(len(across), "file is", "files are") + " in more than one split.")
    if conflicts:
        leaks.append(_many(len(conflicts), "label conflict.", "label conflicts."))
    for label, rows in probed.items():
        told = [row for row in rows if row.low > above]
        if told:
            best = max(told, key=lambda row: row.low)
            leaks.append(
                f"Metadata tells {label}: AUC {best.auc:.2f} ({best.low:.2f} to {best.high:.2f}) "
                f"from {_words(best)}."
            )
        elif not rows and manifest[label].notna().any():
            notes.append(
                f"Whether metadata tells {label} was not measured: that takes {FEWEST} readable "
                f"clips of {FOLDS} people or more, of real and of fake."
            )
    if (manifest["group"] == manifest["path"]).all():
        notes.append("The manifest names no groups: whether people are shared cannot be told.")
    others = sorted(set(manifest["split"]) - set(apart))
    if others and set(manifest["split"]) != {""}:
        names = ", ".join(name or "(none)" for name in others)
        notes.append(f"Not compared with the other splits: {names}.")
    notes += _one_sided(manifest)
    return Audit(
        clips=len(manifest),
        labels={label: _counted(manifest[label]) for label in LABELS},
        unread=[
            {"path": one.path, "reason": one.reason, "message": one.message}
            for one in facts
            if one.reason is not None
        ],
        damaged=[{"path": one.path, "warnings": one.warnings} for one in facts if one.warnings],
        identities=identities,
        duplicates=duplicates,
        conflicts=conflicts,
        separations=probed,
        above=above,
        leaks=leaks,
        notes=notes,
    )


def _probed(
    manifest: pd.DataFrame, facts: Sequence[Facts], draws: int
) -> dict[str, list[Separation]]:
    table = pd.DataFrame([asdict(one) for one in facts], columns=[*FEATURES, "reason"])
    found = {}
    for label in LABELS:
        known = (manifest[label].notna() & table["reason"].isna()).to_numpy()
        found[label] = separations(
            table[known],
            manifest[label][known].to_numpy(),
            manifest["group"][known].to_numpy(),
            draws,
        )
    return found


def _one_sided(manifest: pd.DataFrame) -> list[str]:
    """A data set that holds one class only is itself a short cut, where several are mixed."""
    known = manifest[manifest["label"].notna()]
    kinds = known.groupby("dataset")["label"].nunique()
    if len(kinds) < 2 or (kinds > 1).all():
        return []
    names = list(kinds.index[kinds == 1])
    some = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return [f"{len(names)} of {len(kinds)} data sets hold one class only: {some}."]


def _counted(column: pd.Series) -> dict[str, int]:
    return {
        "real": int((column == 0).sum()),
        "fake": int((column == 1).sum()),
        "unknown": int(column.isna().sum()),
    }


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def _words(row: Separation) -> str:
    model = "trees" if row.model == "trees" else "logistic regression"
    return f"all facts together ({model})" if row.facts == "all" else FEATURES[row.facts]


def show(found: Audit, console: Console) -> None:
    """Print tables that a person understands, and the verdict in words."""
    console.print(_labels_table(found))
    if any(found.separations.values()):
        console.print(_separation_table(found))
    _examples(console, "Could not be read", [f"{e['path']}: {e['reason']}" for e in found.unread])
    _examples(
        console,
        "Damaged in part",
        [f"{e['path']}: {', '.join(e['warnings'])}" for e in found.damaged],
    )
    _examples(
        console,
        "People or groups in more than one split",
        [
            f"{e['kind']} {e['name']}: " + ", ".join(f"{n} in {s}" for s, n in e["clips"].items())
            for e in found.identities
        ],
    )
    _examples(
        console,
        "Files that are there more than once",
        [
            f"same {e['kind']}"
            + (", across splits" if e["leaks"] else "")
            + ": "
            + ", ".join(e["paths"])
            for e in sorted(found.duplicates, key=lambda e: not e["leaks"])
        ],
    )
    _examples(
        console,
        "Labels that contradict each other",
        [f"{', '.join(e['paths'])} {e['what']}" for e in found.conflicts],
    )
    for note in found.notes:
        console.print(Text(f"Note: {note}"))
    if found.leaks:
        console.print(Text("Verdict: this data set leaks.", style="bold red"))
        for leak in found.leaks:
            console.print(Text(f"  - {leak}"))
    else:
        limits = ", as far as could be looked (see the notes)" if found.notes else ""
        console.print(Text(f"Verdict: no leak was found{limits}.", style="bold green"))


def _labels_table(found: Audit) -> Table:
    table = Table(title=f"{found.clips} clips, {len(found.unread)} of them not readable")
    for name in ("", "real", "fake", "unknown"):
        table.add_column(name, justify="right" if name else "left")
    for label, counts in found.labels.items():
        table.add_row(label, *(str(counts[name]) for name in ("real", "fake", "unknown")))
    return table


def _separation_table(found: Audit) -> Table:
    table = Table(
        title="What metadata alone tells: AUC (95% interval)",
        caption="0.5 is nothing; nobody is on both sides of a fold",
    )
    table.add_column("facts")
    measured = {label: rows for label, rows in found.separations.items() if rows}
    for label in measured:
        table.add_column(label, justify="right")
    first = next(iter(measured.values()))
    cells = {
        label: {(row.facts, row.model): row for row in rows} for label, rows in measured.items()
    }
    for row in first:
        entries = [cells[label][row.facts, row.model] for label in measured]
        texts = [
            Text(
                f"{one.auc:.2f} ({one.low:.2f}-{one.high:.2f})",
                style="red" if one.low > found.above else "",
            )
            for one in entries
        ]
        table.add_row(_words(row), *texts, end_section=row is first[1])
    return table


def _examples(console: Console, what: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    console.print(Text(f"{what} ({len(lines)}):"))
    for line in lines[:SHOWN]:
        console.print(Text(f"  {line}"))
    if len(lines) > SHOWN:
        console.print(Text(f"  and {len(lines) - SHOWN} more"))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.audit", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "manifest", type=Path, help="CSV, TSV, Parquet, or a folder or zip with metadata.json"
    )
    parser.add_argument(
        "--root", type=Path, help="folder or zip that its paths are in (default: the manifest's)"
    )
    parser.add_argument("--out", type=Path, help="JSON file for all that was found")
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE", help="only these rows"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="files at a time")
    parser.add_argument(
        "--splits",
        default=",".join(APART),
        metavar="A,B,...",
        help="splits that must share nobody (default: %(default)s)",
    )
    parser.add_argument(
        "--above",
        type=float,
        default=ABOVE,
        help="metadata leaks if the 95%% interval of an AUC is above this (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error("--workers must be 1 or more")
    if not 0.5 <= options.above <= 1:
        parser.error("--above is an AUC, from 0.5 to 1")
    try:
        manifest = select(read_manifest(options.manifest), options.where)
        media = Media.of(options.manifest, options.root)
        kept = None if options.out is None else _journal(options.out)
        facts = read_all(media, list(manifest["path"]), kept, options.workers)
    except (AvfakeError, TableError) as error:
        parser.error(str(error))
    if all(one.reason is not None for one in facts):
        parser.error(f"none of the {len(facts)} files can be read in {media.root}")
    found = audit(manifest, media, facts, options.splits.split(","), options.above)
    show(found, Console())
    if options.out is not None:
        part = options.out.with_name(options.out.name + ".part")
        part.write_text(json.dumps(found.to_dict(), indent=1))
        part.replace(options.out)
    return 1 if found.leaks else 0


def _journal(out: Path) -> Path:
    """Where facts are kept beside `out`, which can be written: better to hear it now than later."""
    if out.is_dir():
        raise TableError(f"{out} is a folder: name the file to write.")
    journal = out.with_suffix(".facts.jsonl")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        journal.open("a").close()
    return journal


if __name__ == "__main__":
    sys.exit(main())
