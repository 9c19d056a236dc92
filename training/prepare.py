"""Media -> what the recipes read: a manifest, face pictures and talking-face tracks.

    python -m training.prepare --dataset NAME ROOT OUT [--workers 8] [--face-model yunet.onnx]
    python -m training.prepare --data PACKS --out prepared [--face-model yunet.onnx]

The first is for the data sets of `training.datasets`, the second for the packs that the shipped
models are trained on (PACKS/SOURCES.tsv). Written to OUT are

- `manifest.csv`: a row a clip (see training/manifest.py; for sets of sound only this is all);
- `faces.csv` and `tracks.csv`: a row for each face picture and each track (see training/cut.py)
  whose label is known, with its clip's labels, and the files themselves: in `shards/*.tar` as JPEG,
  of packs in the folders `faces` and `tracks` as PNG. `training.shards` reads both;
- `skipped.csv`: what could not be used, and why; files that are listed but missing are in it.

Where a set names the original of a fake but not what was forged, the two are compared first
(see training/compare.py). A run that was stopped, however, goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from avfake.faces import load_finder
from avfake.types import AvfakeError
from training.batches import Engine, Job, on_cluster, records, run
from training.compare import EVIDENCE, Comparer, Pair
from training.cut import BOX, POINTS, Cutter, Source
from training.datasets import DATASETS, packs
from training.manifest import LABELS, UNKNOWN, DatasetError, Manifest, is_sound, save
from training.shards import Folder, Shards

OF_THE_CLIP = ["split", "label", "group", "source", "clip"]
FACE_COLUMNS = ["path", *OF_THE_CLIP, "time", "score", *BOX, *POINTS]
TRACK_COLUMNS = ["path", *OF_THE_CLIP, "frames", "start"]
SHARD_COLUMNS = ["member", "method", *LABELS[1:]]
"""What indexes of shards have besides: `member`, the file's name in its shard, and more that the
manifest says of the clip."""
TIMEOUT = 1800.0  # seconds that one clip may take


def prepare(
    manifest: Manifest,
    out: Path,
    face_model: str | None = None,
    workers: int = 1,
    loose: bool = False,
    engine: Engine | None = None,
) -> None:
    """Prepare the files of `manifest` into `out`, as shards, or `loose` with a file for each.

    `engine`: what does the batches (see training/batches.py), None for processes of this machine.

    Raises DatasetError where `out` holds something else, AvfakeError for a bad `face_model`.
    """
    _claim(out, manifest, load_finder(face_model).name)
    there = manifest.there()
    missing = manifest.table["path"][~there]
    if len(missing):
        print(f"{len(missing)} of {len(there)} files that are listed are not there (skipped.csv).")
    manifest = replace(manifest, table=manifest.table[there].reset_index(drop=True))
    if "original" in manifest.table:
        manifest = _with_evidence(manifest, out, face_model, workers, engine)
    save(manifest, out / "manifest.csv")
    skipped = [{"path": path, "why": "not_found"} for path in missing]
    skipped += _cut(manifest, out, face_model, workers, loose, engine)
    _write(out / "skipped.csv", ["path", "why"], skipped)
    reasons = Counter(row["why"] for row in skipped)
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    print(f"skipped: {told or 'nothing'}")


def _claim(out: Path, manifest: Manifest, finder: str) -> None:
    """Note in `out` what it holds; refuse to mix it with something else."""
    mine = {
        "dataset": manifest.name,
        "root": str(manifest.root.resolve()),
        "apart": manifest.apart,
        "finder": finder,
    }
    note = out / "dataset.json"
    if note.is_file():
        theirs = json.loads(note.read_text())
        for name in ("dataset", "finder"):
            if theirs[name] != mine[name]:
                raise DatasetError(
                    f"{out} holds what was prepared with {name} {theirs[name]}, not {mine[name]}: "
                    "give another folder."
                )
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(mine, indent=2) + "\n")


def _with_evidence(
    manifest: Manifest,
    out: Path,
    face_model: str | None,
    workers: int,
    engine: Engine | None,
) -> Manifest:
    """The manifest with what comparing fakes with their originals showed."""
    table = manifest.table
    unknown = table["label_visual"].isna() & table["label_audio"].isna()
    asked = (table["label"] == 1) & unknown & (table["original"] != "")
    if not asked.any():
        return manifest
    there = table["original"].isin(set(table["path"]))
    pairs = [
        Pair(path, original)
        for path, original in table.loc[asked & there, ["path", "original"]].itertuples(index=False)
    ]
    job = Job(
        functools.partial(Comparer.load, manifest.root, face_model),
        Folder(out),
        out / "compared",
        TIMEOUT,
    )
    run(job, pairs, workers, "compared", engine)
    rows: dict[str, dict[str, Any]] = {}
    for record in records(job.records):
        rows |= {row["path"]: row for row in record["rows"].get("compared", ())}
        failed = record["rows"].get("skipped", ())
        rows |= {row["path"]: {"compared": row["why"]} for row in failed}
    table = table.copy()
    found = [rows.get(path, {}) for path in table["path"].where(asked & there)]
    for name in EVIDENCE:
        table[name] = [row.get(name) for row in found]
    table.loc[asked & ~there, "compared"] = "no_original"
    for name in LABELS[1:]:
        told = pd.Series([row.get(name) for row in found], table.index, dtype=float)
        table[name] = table[name].fillna(told)
    print(
        f"{int(asked.sum())} fakes with an original: "
        f"{int((table['label_visual'][asked] == 1).sum())} of the picture, "
        f"{int((table['label_audio'][asked] == 1).sum())} of the sound; "
        f"{int((asked & ~there).sum())} originals are not there"
    )
    return replace(manifest, table=table)


def _cut(
    manifest: Manifest,
    out: Path,
    face_model: str | None,
    workers: int,
    loose: bool,
    engine: Engine | None,
) -> list[dict[str, Any]]:
    """Cut all files that may show a face; write the indexes; return the rows of skipped.csv."""
    table = manifest.table
    # No recipe trains on clips put aside, nor judges by them.
    pictured = table[~table["path"].map(is_sound) & (table["split"] != "aside")]
    if pictured.empty:
        print(f"{len(table)} files of sound: manifest.csv is all that they need")
        return []
    sources = [
        Source(path, tuple((start, end) for start, end in json.loads(segments)))
        for path, segments in zip(pictured["path"], pictured["segments"], strict=True)
    ]
    job = Job(
        functools.partial(Cutter.load, manifest.root, face_model, loose),
        Folder(out) if loose else Shards(out),
        out / "batches",
        TIMEOUT,
    )
    run(job, sources, workers, "cut", engine)
    more = [] if loose else SHARD_COLUMNS
    kept = pictured[["path", *LABELS, "segments", "group", "split", "dataset", "method"]]
    # Tuples, not a dict a clip: sets of two million clips exist.
    clips = {row.path: row for row in kept.itertuples(index=False)}
    counts = {}
    for name, columns in (("faces", FACE_COLUMNS), ("tracks", TRACK_COLUMNS)):
        rows = (
            _described(row, clips[row["clip"]], name)
            for record in records(job.records)
            for row in record["rows"].get(name, ())
            if row["clip"] in clips
        )
        known = (row for row in rows if row["label"] != "")
        counts[name] = _write(out / f"{name}.csv", columns + more, known)
    print(f"{counts['faces']} face pictures and {counts['tracks']} tracks of {len(clips)} files")
    return [
        row
        for record in records(job.records)
        for row in record["rows"].get("skipped", ())
        if row["path"] in clips
    ]


def _described(row: dict[str, Any], clip: Any, table: str) -> dict[str, Any]:
    """The row with what the manifest says of its clip."""
    label = clip.label
    if table == "faces":
        label = picture_label(clip.label_visual, clip.segments, row["time"])
    known = {"split": clip.split, "group": clip.group, "source": clip.dataset}
    known |= {"method": clip.method, "label": _number(label)}
    return row | known | {name: _number(getattr(clip, name)) for name in LABELS[1:]}


def picture_label(visual: float, segments: str, time: float) -> float:
    """Whether the picture at `time` seconds is forged, by its clip's label_visual and segments.

    NaN: unknown, as beside the forged seconds of a clip, where it went through the same tools.
    """
    forged = json.loads(segments)
    if visual == 1 and forged:
        return 1.0 if any(start <= time <= end for start, end in forged) else UNKNOWN
    return visual


def _number(value: float) -> int | str:
    return "" if pd.isna(value) else int(value)


def _write(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> int:
    """Write a CSV, whole or not at all; return how many rows it has."""
    part = path.with_suffix(".part")
    count = 0
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            writer.writerow(row)
            count += 1
    part.replace(path)
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 broken off, 2 wrong usage or not the expected files."""
    parser = argparse.ArgumentParser(
        prog="python -m training.prepare", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--dataset", choices=sorted(DATASETS), help="what ROOT holds")
    parser.add_argument("root", type=Path, nargs="?", metavar="ROOT", help="the data set's folder")
    parser.add_argument("into", type=Path, nargs="?", metavar="OUT", help="folder to write to")
    parser.add_argument("--data", type=Path, metavar="PACKS", help="folder with SOURCES.tsv")
    parser.add_argument("--out", type=Path, help="with --data: folder to write to")
    parser.add_argument("--face-model", help="what finds the faces: dlib or a YuNet ONNX file")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="what the workers are: processes of this machine (the default), or a Ray cluster's",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT|auto",
        help="with --engine ray: the cluster, of which this machine is a node; all nodes must see "
        "this repository, the data set and OUT under the same names",
    )
    options = parser.parse_args(arguments)
    of_packs = options.data is not None and options.out is not None
    if of_packs == (None not in (options.dataset, options.root, options.into)):
        parser.error("give either --dataset NAME ROOT OUT or --data PACKS --out OUT")
    if options.workers < 1:
        parser.error("--workers is 1 or more")
    if options.address is not None and options.engine != "ray":
        parser.error("--address is of a Ray cluster: add --engine ray")
    engine = None
    if options.engine == "ray":
        engine = functools.partial(on_cluster, address=options.address)
        for name in ("root", "into", "data", "out", "face_model"):  # workers are elsewhere
            if (given := getattr(options, name)) not in (None, "dlib"):
                setattr(options, name, type(given)(os.path.abspath(given)))
    try:
        if of_packs:
            manifest, out = packs.prepare(options.data), options.out
        else:
            manifest, out = DATASETS[options.dataset](options.root), options.into
        for note in manifest.notes:
            print(note)
        prepare(manifest, out, options.face_model, options.workers, of_packs, engine)
    except (AvfakeError, DatasetError) as error:
        print(error, file=sys.stderr)
        return 2
    except (OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
