"""DFDC: the Deepfake Detection Challenge data set (Dolhansky et al. 2020, arXiv:2006.07397).

    ROOT/dfdc_train_part_0/metadata.json     or ROOT/train/dfdc_train_part_0/..., or ROOT itself a
    ROOT/dfdc_train_part_0/aaqaifqrwn.mp4    part (the sample of the Kaggle competition)
    ROOT/validation/labels.csv, ROOT/test/labels.csv
                                             filename,label with 1 = fake; videos beside it or in
                                             videos/ (the released test sets of the challenge)

A part's metadata.json: {"aaqaifqrwn.mp4": {"label": "FAKE", "split": "train", "original":
"xxx.mp4"}, ...}; real clips have label REAL and no original (Kaggle, "Deepfake Detection
Challenge", data page).

A fake has one label, though its picture, its sound or both may be forged: what is forged is left
unknown here, and `training.prepare` finds out by comparing with the original (`training.compare`).

All parts are published as "train": splits are made here. Clips of one original form a group. The
same actor recorded several originals, of which nothing tells; clips of one part are likelier to
share an actor than clips of two. So with ten parts or more whole parts go to train, val or test;
with fewer, groups do, and an actor may be on two sides. Nor does anything tell who is seen in
`validation` and `test`: each of their clips is a group of its own.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from training.manifest import DatasetError, Entry, Manifest, components, manifest, split_groups

PARTS_TO_SPLIT_BY = 10
HELD_BACK = {"validation": "val", "test": "test"}


def prepare(root: Path) -> Manifest:
    """The manifest of the parts at `root`, with the column `original` (a path, or empty)."""
    parts = sorted(
        file.parent
        for pattern in ("metadata.json", "*/metadata.json", "train/*/metadata.json")
        for file in root.glob(pattern)
        if file.parent.name not in HELD_BACK
    )
    held = [root / name for name in HELD_BACK if (root / name / "labels.csv").is_file()]
    if not parts and not held:
        raise DatasetError(
            f"{root} holds no DFDC part: expected folders such as dfdc_train_part_0 with a "
            "metadata.json and the videos in it."
        )
    entries = [entry for part in parts for entry in _part(root, part)]
    notes = []
    if len(parts) >= PARTS_TO_SPLIT_BY:
        folders = [entry.path.rpartition("/")[0] for entry in entries]
        # An original in another part ties the two parts together.
        ties = [(*entry.people, f"part {f}") for entry, f in zip(entries, folders, strict=True)]
        wholes = components(ties)
        splits = split_groups(wholes)
        entries = [replace(e, split=splits[w]) for e, w in zip(entries, wholes, strict=True)]
    elif parts:
        notes.append(
            f"Of fewer than {PARTS_TO_SPLIT_BY} parts the splits are made by original: "
            "an actor with several recordings may be in two of them."
        )
    listed = {entry.path for entry in entries}
    lost = sum(bool(e.more["original"]) and e.more["original"] not in listed for e in entries)
    if lost:
        notes.append(f"{lost} fakes name an original that no metadata.json here lists.")
    entries += [entry for folder in held for entry in _held_back(root, folder)]
    return manifest("dfdc", root, entries, notes)


def _part(root: Path, part: Path) -> Iterator[Entry]:
    try:
        listed = json.loads((part / "metadata.json").read_text())
        for name, facts in sorted(listed.items()):
            fake = {"REAL": 0, "FAKE": 1}[facts["label"]]
            original = facts.get("original") or ""
            path = _below(root, part / name)
            forged = float("nan") if fake else 0
            yield Entry(
                path=path,
                label=fake,
                visual=forged,
                audio=forged,
                lipsync=forged,
                # File names are unique over all parts.
                people=(original or name,) if fake else (name,),
                more={"original": _below(root, part / original) if original else ""},
            )
    except (ValueError, KeyError, AttributeError, TypeError):
        raise DatasetError(
            f"{part / 'metadata.json'} is not DFDC's: expected a JSON object of file names, each "
            "with a label REAL or FAKE."
        ) from None


def _held_back(root: Path, folder: Path) -> Iterator[Entry]:
    videos = folder / "videos" if (folder / "videos").is_dir() else folder
    with (folder / "labels.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        if not {"filename", "label"} <= set(reader.fieldnames or ()):
            raise DatasetError(f"{folder / 'labels.csv'} needs the columns filename and label.")
        for row in reader:
            fake = int(row["label"])
            forged = float("nan") if fake else 0
            yield Entry(
                path=_below(root, videos / row["filename"]),
                label=fake,
                visual=forged,
                audio=forged,
                lipsync=forged,
                people=(row["filename"],),
                split=HELD_BACK[folder.name],
                more={"original": ""},
            )


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
