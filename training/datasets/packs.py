"""The media packs that the shipped models are trained on: `ROOT/SOURCES.tsv` lists them.

    path  split  kind  label  group  source  licence  bytes

`split` is train or dev (true fakes to choose by); `kind` is face, video, talking, clip, facetrack
or speech; `label` is real or fake; `group` is the person. The picture of a fake is what is forged
in it, of speech the sound. The data set of a row is its pack's folder, such as talking/grid.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from training.manifest import UNKNOWN, DatasetError, Entry, Manifest, manifest

COLUMNS = ("path", "split", "kind", "label", "group")


def prepare(root: Path) -> Manifest:
    """The manifest of all packs, in the order of SOURCES.tsv, with the column `kind`."""
    listed = root / "SOURCES.tsv"
    if not listed.is_file():
        raise DatasetError(f"{root} holds no packs: expected a file SOURCES.tsv.")
    rows = pd.read_csv(listed, sep="\t", dtype=str, keep_default_na=False)
    missing = set(COLUMNS) - set(rows.columns)
    if missing:
        raise DatasetError(f"{listed} lacks the columns {', '.join(sorted(missing))}.")
    entries = [
        Entry(
            path=row.path,
            label=int(row.label == "fake"),
            visual=UNKNOWN if row.kind == "speech" else int(row.label == "fake"),
            audio=int(row.label == "fake") if row.kind == "speech" else UNKNOWN,
            people=(person(row.group).replace(" ", "_"),),
            group=person(row.group),
            split=row.split,
            more={"kind": row.kind},
        )
        for row in rows.itertuples()
    ]
    made = manifest("packs", root, entries)
    packs = ["/".join(path.split("/")[:2]) for path in made.table["path"]]
    return replace(made, table=made.table.assign(dataset=packs))


def person(group: str) -> str:
    """Who a group is: the actor where MEAD's naming tells, else the group itself."""
    actor = re.search(r"(?:^|[_-])([MW]\d{3})(?:[_.-]|$)", group)
    return f"mead-{actor[1]}" if actor else group
