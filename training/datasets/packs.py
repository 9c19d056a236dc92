"""The media packs that the shipped models are trained on: `ROOT/SOURCES.tsv` lists them.

    path  split  kind  label  group  source  licence  bytes

`split` is train or dev (true fakes to choose by); `kind` is face, video, talking, clip, facetrack
or speech; `label` is real or fake; `group` is the person. The picture of a fake is what is forged
in it, of speech the sound. The data set of a row is its pack's folder, such as talking/grid.
"""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

from training.manifest import UNKNOWN, DatasetError, Entry, Manifest, manifest

LEFT_OUT = Path(__file__).with_name("packs_left_out.csv")
"""Portraits that are drawn, or so retouched that a forgery of them would be one of a forgery."""
COLUMNS = ("path", "split", "kind", "label", "group")


def prepare(root: Path) -> Manifest:
    """The manifest of all packs but LEFT_OUT, in SOURCES.tsv's order, with the column `kind`."""
    listed = root / "SOURCES.tsv"
    if not listed.is_file():
        raise DatasetError(f"{root} holds no packs: expected a file SOURCES.tsv.")
    with listed.open(newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise DatasetError(f"{listed} lacks the columns {', '.join(sorted(missing))}.")
        with LEFT_OUT.open(newline="") as others:
            left_out = {row["path"] for row in csv.DictReader(others)}
        entries = [_entry(row) for row in reader if row["path"] not in left_out]
    made = manifest("packs", root, entries)
    packs = ["/".join(path.split("/")[:2]) for path in made.table["path"]]
    return replace(made, table=made.table.assign(dataset=packs))


def _entry(row: dict[str, str]) -> Entry:
    fake, spoken = int(row["label"] == "fake"), row["kind"] == "speech"
    who = person(row["group"])
    return Entry(
        path=row["path"],
        label=fake,
        visual=UNKNOWN if spoken else fake,
        audio=fake if spoken else UNKNOWN,
        people=(who.replace(" ", "_"),),
        group=who,
        split=row["split"],
        more={"kind": row["kind"]},
    )


def person(group: str) -> str:
    """Who a group is: the actor where MEAD's naming tells, else the group itself."""
    actor = re.search(r"(?:^|[_-])([MW]\d{3})(?:[_.-]|$)", group)
    return f"mead-{actor[1]}" if actor else group
