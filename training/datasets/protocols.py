"""What the ASVspoof releases have in common: protocols of one utterance a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.manifest import DatasetError, Entry

KEYS = {"bonafide": 0, "spoof": 1}


def read_protocol(protocol: Path, columns: int) -> Iterator[list[str]]:
    """The first `columns` words of each line. Raises DatasetError where a line has fewer."""
    if not protocol.is_file():
        raise DatasetError(f"There is no protocol {protocol}.")
    with protocol.open() as lines:
        for number, line in enumerate(lines, 1):
            words = line.split()
            if words and len(words) < columns:
                raise DatasetError(
                    f"{protocol}, line {number}: expected {columns} words, found {len(words)}."
                )
            if words:
                yield words[:columns]


def utterance(
    path: str, speaker: str, attack: str, key: str, split: str, more: dict[str, Any] | None = None
) -> Entry:
    """One utterance; `key` is bonafide or spoof. Raises DatasetError for another."""
    if key not in KEYS:
        raise DatasetError(f"{path}: its key is {key!r}, not bonafide or spoof.")
    fake = KEYS[key]
    return Entry(
        path=path,
        label=fake,
        audio=fake,
        people=(speaker,),
        split=split,
        method=attack if fake else "",
        more=more or {},
    )
