"""A data set as one checked table: a row a clip, the same columns whatever the set.

`training/datasets/` makes manifests, `training.prepare` and the recipes read them. See COLUMNS.

The rule that all of it serves: nobody is learnt from and judged by. A fake has several people in
it (who is seen, whose face or voice was put in), so clips that share a person belong together, and
so on through chains: the connected components of people. No component may have clips in two of
train, val and test; `Manifest` checks it.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = {
    "path": "the file, with slashes, below the data set's folder",
    "label": "1 where anything in the clip is forged, else 0",
    "label_visual": "1 where the picture is forged, 0 where not, empty where nobody says",
    "label_audio": "the same of the sound; empty for silent sets",
    "label_lipsync": "1 where lips and voice were not recorded together (the mouth was made to "
    "speak, or the sound exchanged); a face swap over its own sound is 0",
    "segments": "JSON list of [start, end], forged seconds; [] is all of a fake, none of a real",
    "people": "whom the clip is made of, separated by spaces, who is seen or heard first",
    "group": "whom to hold out together: the component, or the person seen (see the data set)",
    "split": "train, val, test; dev: fakes to choose by; aside: would stand between two of them",
    "dataset": "the data set's name",
    "method": "what forged it, as the set calls it; empty for real clips",
}
LABELS = ("label", "label_visual", "label_audio", "label_lipsync")
APART = ("train", "val", "test")
SPLITS = (*APART, "dev", "aside")
UNKNOWN = math.nan
HELD_OUT = 5
"""Of the people to train on, recipes hold out one group in so many."""
SOUND = frozenset((".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac"))
"""How files end that hold sound and no picture."""


def is_sound(path: str) -> bool:
    """Whether a file of this name holds sound and no picture."""
    return PurePosixPath(path).suffix.lower() in SOUND


class DatasetError(ValueError):
    """A folder that is not laid out as expected, or a manifest that breaks its form.

    The message is one sentence for the user.
    """


@dataclass(frozen=True, slots=True)
class Entry:
    """One clip, as a data set's file describes it; `manifest` makes the table of many.

    Labels are 0, 1 or UNKNOWN. `people`: names without spaces, who is seen or heard first.
    `group` and `split`: empty where the component decides. `segments`: (start, end) in seconds.
    `more`: further columns.
    """

    path: str
    label: float
    people: tuple[str, ...]
    visual: float = UNKNOWN
    audio: float = UNKNOWN
    lipsync: float = UNKNOWN
    segments: tuple[tuple[float, float], ...] = ()
    group: str = ""
    split: str = ""
    method: str = ""
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """A checked table (COLUMNS, and what a set adds) of the files of `name` below `root`.

    `notes`: what the user should know, a sentence each. `apart`: whether no person may be in two
    of train, val and test (false only for published splits that are known to break it).

    Raises DatasetError where the table breaks its form.
    """

    name: str
    root: Path
    table: pd.DataFrame
    notes: tuple[str, ...] = ()
    apart: bool = True

    def __post_init__(self) -> None:
        check_form(self.table)
        if self.apart:
            check_apart(self.table)

    def there(self) -> pd.Series:
        """Bool [n]: which of the files are on disk. Folders are listed, not files asked for."""
        listed: dict[str, set[str]] = {}
        found = []
        for path in self.table["path"]:
            folder, _, name = path.rpartition("/")
            if folder not in listed:
                place = self.root / folder
                listed[folder] = set(os.listdir(place)) if place.is_dir() else set()
            found.append(name in listed[folder])
        return pd.Series(found, self.table.index, dtype=bool)


def manifest(
    dataset: str,
    root: Path,
    entries: Iterable[Entry],
    notes: Sequence[str] = (),
    apart: bool = True,
) -> Manifest:
    """The manifest of `entries`; components of people fill empty groups and splits.

    A file that is listed twice counts once: its first entry stays and a note tells of it. Another
    tells, of splits that need not keep people `apart`, how many are in several.
    """
    unique: dict[str, Entry] = {}
    twice = 0
    for entry in entries:
        twice += entry.path in unique
        unique.setdefault(entry.path, entry)
    if not unique:
        raise DatasetError(f"{root} lists no clips of {dataset}.")
    kept = list(unique.values())
    notes = list(notes)
    if twice:
        notes.append(f"{twice} files are listed twice; their first rows count.")
    groups = components([entry.people for entry in kept])
    splits = [entry.split for entry in kept]
    if not all(splits):
        splits = _filled(groups, splits)
    table = pd.DataFrame(
        {
            "path": [entry.path for entry in kept],
            "label": [entry.label for entry in kept],
            "label_visual": [entry.visual for entry in kept],
            "label_audio": [entry.audio for entry in kept],
            "label_lipsync": [entry.lipsync for entry in kept],
            "segments": [json.dumps([list(pair) for pair in entry.segments]) for entry in kept],
            "people": [" ".join(entry.people) for entry in kept],
            "group": [entry.group or group for entry, group in zip(kept, groups, strict=True)],
            "split": splits,
            "dataset": dataset,
            "method": [entry.method for entry in kept],
        }
    )
    table = table.astype(dict.fromkeys(LABELS, float))
    for name in dict.fromkeys(name for entry in kept for name in entry.more):
        table[name] = [entry.more.get(name) for entry in kept]
    if not apart:
        shared = sum(len(where) > 1 for where in places(table).values())
        notes.append(f"{shared} people are in more than one of the published splits.")
    return Manifest(dataset, root, table, tuple(notes), apart)


def components(links: Sequence[Sequence[str]]) -> list[str]:
    """For each clip's names the first name (in the alphabet) of the component they are in.

    Names that stand together in one clip are connected, and so on through chains.
    """
    above: dict[str, str] = {}

    def first(name: str) -> str:
        above.setdefault(name, name)
        while above[name] != name:
            above[name] = above[above[name]]
            name = above[name]
        return name

    for names in links:
        for other in names[1:]:
            one, two = sorted((first(names[0]), first(other)))
            above[two] = one
    return [first(names[0]) for names in links]


def hashed(group: str, parts: int) -> int:
    """Which of `parts` a group falls into: the same on every machine, whatever else there is."""
    return zlib.crc32(group.encode()) % parts


def held_out(groups: Iterable[str]) -> np.ndarray:
    """Bool [n]: whether each group is one of the people that every recipe keeps from training."""
    return np.array([hashed(group, HELD_OUT) == 0 for group in groups], bool)


def split_groups(groups: Iterable[str], share: float = 0.1) -> dict[str, str]:
    """A split for each group: about `share` of the clips test, as many val, the rest train.

    `groups`: the group of each clip. The order in which groups are taken comes from a hash of
    their names, so that it is the same on every machine. Of three groups or more each split gets
    one at least; a group too large for val or test goes to train.
    """
    sizes = Counter(groups)
    order = sorted(sizes, key=lambda name: (zlib.crc32(name.encode()), name))
    room = share * sum(sizes.values())
    splits = dict.fromkeys(order, "train")
    filled = {"test": 0, "val": 0}
    for name in order:
        emptier = min(filled, key=lambda split: filled[split])
        if filled[emptier] + sizes[name] <= room:
            splits[name] = emptier
            filled[emptier] += sizes[name]
    for split, count in filled.items():
        left = [name for name in order if splits[name] == "train"]
        if not count and len(order) > 2 and len(left) > 1:
            splits[min(left, key=lambda name: sizes[name])] = split
    return splits


def split_people(clips: Sequence[Sequence[str]]) -> list[str]:
    """A split for each clip's people where everybody was swapped with everybody.

    There the components would be one. Instead people are split; a clip whose people fall into
    different splits is put "aside".
    """
    splits = split_groups(name for people in clips for name in set(people))
    sides = [{splits[name] for name in people} for people in clips]
    return [side.pop() if len(side) == 1 else "aside" for side in sides]


def _filled(groups: Sequence[str], splits: Sequence[str]) -> list[str]:
    """Splits for the clips without: their component's, if it has one, else by `split_groups`."""
    given = {group: split for group, split in zip(groups, splits, strict=True) if split}
    drawn = split_groups(group for group in groups if group not in given)
    both = drawn | given
    return [split or both[group] for group, split in zip(groups, splits, strict=True)]


def check_form(table: pd.DataFrame) -> None:
    """Raise DatasetError, naming the first row, where `table` is no manifest."""
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DatasetError(f"A manifest needs the columns {', '.join(missing)}.")
    for fault, rows in _faults(table):
        if rows.any():
            raise DatasetError(f"{table['path'][rows].iloc[0]}: {fault}.")


def _faults(table: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    paths = table["path"]
    odd = [not path or path != str(PurePosixPath(path)) or path[0] in "/." for path in paths]
    yield "a path lies below the data set's folder and is written plainly", pd.Series(odd)
    yield "a path stands in one row only", paths.duplicated()
    yield "label is 0 or 1", ~table["label"].isin([0, 1])
    for name in LABELS[1:]:
        yield f"{name} is 0, 1 or empty", ~(table[name].isin([0, 1]) | table[name].isna())
    parts = table[list(LABELS[1:])]
    yield "a real clip has nothing forged in it", (table["label"] == 0) & (parts == 1).any(axis=1)
    spared = (parts[["label_visual", "label_audio"]] == 0).all(axis=1)
    yield "a fake has something forged in it", (table["label"] == 1) & spared
    yield f"split is one of {', '.join(SPLITS)}", ~table["split"].isin(SPLITS)
    yield "group and people are not empty", (table["group"] == "") | (table["people"] == "")
    good = {text: segments_are_good(text) for text in table["segments"].unique()}
    yield "segments are a JSON list of [start, end] in seconds", ~table["segments"].map(good)


def segments_are_good(text: str) -> bool:
    """Whether `text` is a JSON list of [start, end] with 0 <= start < end."""
    try:
        return all(0 <= start < end for start, end in json.loads(text))
    except (TypeError, ValueError):
        return False


def check_apart(table: pd.DataFrame) -> None:
    """Raise DatasetError where somebody is in two of train, val and test.

    Nobody in two splits is the same as no component across splits, for every clip has one split.
    """
    for name, splits in places(table).items():
        if len(splits) > 1:
            raise DatasetError(
                f"{name} is in {' and in '.join(splits)}: the splits of {table['dataset'].iloc[0]} "
                "do not keep people apart."
            )


def places(table: pd.DataFrame) -> dict[str, list[str]]:
    """In which of train, val and test everybody is, in the order of the rows."""
    found: dict[str, list[str]] = {}
    counted = table[table["split"].isin(APART)]
    for people, split in zip(counted["people"], counted["split"], strict=True):
        for name in people.split(" "):
            splits = found.setdefault(name, [])
            if split not in splits:
                splits.append(split)
    return found


def save(manifest: Manifest, path: Path) -> None:
    """Write the table as CSV, whole or not at all."""
    part = path.with_suffix(".part")
    manifest.table.to_csv(part, index=False)
    part.replace(path)


def open_prepared(prepared: Path) -> Manifest:
    """The manifest in a folder that `training.prepare` made. Raises DatasetError.

    `manifest.root / path` is a clip's file; a recipe of sound takes the rows whose `label_audio`
    is not empty.
    """
    note = prepared / "dataset.json"
    if not note.is_file():
        raise DatasetError(f"{prepared} was not made by training.prepare: it has no dataset.json.")
    facts = json.loads(note.read_text())
    table = load(prepared / "manifest.csv")
    return Manifest(facts["dataset"], Path(facts["root"]), table, apart=facts["apart"])


def load(path: Path) -> pd.DataFrame:
    """The checked table of a manifest.csv. Raises DatasetError."""
    if not path.is_file():
        raise DatasetError(f"There is no manifest {path}.")
    words = [name for name in COLUMNS if name not in LABELS]
    numbers = [name for name in pd.read_csv(path, nrows=0).columns if name not in words]
    # A person may well be called NA: only where numbers are expected is an empty cell no value.
    table = pd.read_csv(
        path,
        dtype=dict.fromkeys(words, str) | dict.fromkeys(LABELS, float),
        keep_default_na=False,
        na_values={name: [""] for name in numbers},
    )
    check_form(table)
    return table
