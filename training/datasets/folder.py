"""Your own clips: a table beside them, or two folders.

    ROOT/labels.csv      path,label and what you know of: label_visual, label_audio, label_lipsync,
                         segments, people, split, method, original (see training.manifest.COLUMNS)
or
    ROOT/real/anna/1.mp4, ROOT/real/2.mp4        a folder directly in real or fake is a person;
    ROOT/fake/anna/1_swap.mp4, ROOT/fake/2.mp4   other files of one name belong together

In labels.csv `label` is real or fake (or 0 or 1); `people` are names separated by blanks (without
them every clip is its own person); an empty `split` is made here. `original` is the path of the
real clip that a fake was made from: it ties the two together, and where it is not told what was
forged, that is found out by comparing the two (`training.compare`).

Where nothing tells what of a fake was forged: of a still image it is the picture, of a sound file
the sound, and of a video it is unknown; the visual and audio recipes then leave the fake out.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from training.manifest import SOUND, UNKNOWN, DatasetError, Entry, Manifest, manifest

VIDEO = frozenset((".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m4v", ".flv"))
IMAGE = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp"))
LABELS = {"real": 0, "fake": 1, "0": 0, "1": 1}


def prepare(root: Path) -> Manifest:
    """The manifest of `root/labels.csv`, or else of the folders real and fake."""
    listed = root / "labels.csv"
    if not listed.is_file() and not any((root / name).is_dir() for name in ("real", "fake")):
        raise DatasetError(
            f"{root} holds neither labels.csv (with the columns path and label) nor the folders "
            "real and fake."
        )
    entries = list(_listed(listed) if listed.is_file() else _two_folders(root))
    unknown = sum(
        bool(e.label) and e.visual != e.visual and e.audio != e.audio and not e.more["original"]
        for e in entries
    )
    notes = []
    if unknown:
        notes.append(
            f"Of {unknown} fakes nobody says what was forged: columns label_visual and label_audio "
            "in labels.csv would."
        )
    return manifest("folder", root, entries, notes)


def _two_folders(root: Path) -> Iterator[Entry]:
    for name, fake in (("real", 0), ("fake", 1)):
        for file in sorted((root / name).rglob("*")):
            if file.suffix.lower() in VIDEO | SOUND | IMAGE:
                inner = file.relative_to(root / name).parts
                person = inner[0] if len(inner) > 1 else file.stem
                yield _entry(file.relative_to(root).as_posix(), fake, (person.replace(" ", "_"),))


def _listed(listed: Path) -> Iterator[Entry]:
    with listed.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {"path", "label"} <= set(reader.fieldnames or ()):
            raise DatasetError(f"{listed} needs the columns path and label.")
        for row in reader:
            try:
                yield _of_row({name: (value or "").strip() for name, value in row.items() if name})
            except (KeyError, ValueError) as error:
                raise DatasetError(
                    f"{listed}, line {reader.line_num}: {error} is no value."
                ) from None


def _of_row(row: dict[str, str]) -> Entry:
    path, original = row["path"], row.get("original", "")
    people = tuple(row.get("people", "").split()) or (path.replace(" ", "_"),)
    if original:
        people += (original.replace(" ", "_"),)
    told = {
        name: float(row[f"label_{name}"])
        for name in ("visual", "audio", "lipsync")
        if row.get(f"label_{name}")
    }
    segments = json.loads(row.get("segments") or "[]")
    return _entry(
        path,
        LABELS[row["label"].lower()],
        people,
        told,
        tuple((float(start), float(end)) for start, end in segments),
        row.get("split", ""),
        row.get("method", ""),
        original,
    )


def _entry(
    path: str,
    fake: int,
    people: tuple[str, ...],
    told: dict[str, float] | None = None,
    segments: tuple[tuple[float, float], ...] = (),
    split: str = "",
    method: str = "",
    original: str = "",
) -> Entry:
    suffix = Path(path).suffix.lower()
    seen = UNKNOWN if suffix in SOUND or (fake and suffix not in IMAGE) else fake
    heard = UNKNOWN if suffix in IMAGE or (fake and suffix not in SOUND) else fake
    both = UNKNOWN if fake or suffix in SOUND | IMAGE else 0
    told = told or {}
    return Entry(
        path=path,
        label=fake,
        visual=told.get("visual", seen),
        audio=told.get("audio", heard),
        lipsync=told.get("lipsync", both),
        people=people,
        segments=segments,
        split=split,
        method=method if fake else "",
        more={"original": original},
    )
