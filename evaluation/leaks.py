"""What leaks through a manifest: people in two splits, files that are there twice, and labels that
contradict each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import pandas as pd

from avfake.types import AvfakeError
from evaluation.facts import Facts, film_checksum
from evaluation.media import Media
from evaluation.protocols import LABELS


def shared_names(manifest: pd.DataFrame, apart: Iterable[str]) -> list[dict[str, Any]]:
    """Groups, and `people` where the manifest names them (parted by spaces), in two of `apart`."""
    places: dict[tuple[str, str], Counter[str]] = {}
    counted = manifest[manifest["split"].isin(list(apart))]
    for group, split in zip(counted["group"], counted["split"], strict=True):
        places.setdefault(("group", group), Counter())[split] += 1
    if "people" in counted:
        for people, split in zip(counted["people"].fillna(""), counted["split"], strict=True):
            for name in set(people.split()):
                places.setdefault(("person", name), Counter())[split] += 1
    return [
        {"kind": kind, "name": name, "clips": dict(splits)}
        for (kind, name), splits in places.items()
        if len(splits) > 1
    ]


def repeated(manifest: pd.DataFrame, media: Media, facts: Sequence[Facts]) -> list[dict[str, Any]]:
    """Files that are there more than once: of the same `bytes`, or of the same `content`."""
    by_bytes: dict[str, list[int]] = {}
    for row, one in enumerate(facts):
        if one.sha256 is not None:
            by_bytes.setdefault(one.sha256, []).append(row)
    by_content: dict[tuple[Any, ...], list[list[int]]] = {}
    for rows in by_bytes.values():
        one = facts[rows[0]]
        key = (one.sound, one.picture, one.width, one.height)
        by_content.setdefault(key, []).append(rows)
    found = [("bytes", rows) for rows in by_bytes.values() if len(rows) > 1]
    for alike in by_content.values():
        if len(alike) > 1:
            # Sound and first picture may agree by chance, or of a fake with its original.
            films: dict[str, list[list[int]]] = {}
            for rows in alike:
                films.setdefault(_film(media, facts[rows[0]]), []).append(rows)
            found += [
                ("content", list(chain.from_iterable(same)))
                for same in films.values()
                if len(same) > 1
            ]
    return [
        {
            "kind": kind,
            "paths": [facts[row].path for row in rows],
            "splits": sorted(set(manifest["split"].iloc[rows])),
            "labels": {
                label: sorted(set(manifest[label].iloc[rows].dropna().astype(int)))
                for label in LABELS
            },
        }
        for kind, rows in found
    ]


def contradictions(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows whose label is not the greatest of its modalities'.

    A fake with picture and sound marked real needs a forged match of the two; a modality that
    nobody labelled may be the forged one.
    """
    parts = manifest[list(LABELS[1:])]
    forged = (parts == 1).any(axis=1)
    spared = (parts[["label_visual", "label_audio"]] == 0).all(axis=1) & ~forged
    found = []
    for odd, what in (
        ((manifest["label"] == 0) & forged, "is labelled real, and one of its modalities fake"),
        ((manifest["label"] == 1) & spared, "is labelled fake, and its picture and sound real"),
    ):
        found += [{"paths": [path], "what": what} for path in manifest["path"][odd]]
    return found


def disagreeing(
    manifest: pd.DataFrame, duplicates: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Files that `repeated` found to be the same, and whose labels differ."""
    return [
        {"paths": entry["paths"], "what": f"are the same, and differ in {label}"}
        for entry in duplicates
        for label in LABELS
        if len(entry["labels"][label]) > 1
    ]


def _film(media: Media, facts: Facts) -> str:
    if facts.picture is None:
        return ""
    try:
        with media.file(facts.path) as file:
            return film_checksum(file)
    except AvfakeError as error:  # it was readable a moment ago
        return f"{facts.path}: {error.reason}"
