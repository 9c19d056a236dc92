"""Tiny folders of the layouts that data sets have: the files are empty, the names are not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from training.manifest import Manifest


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def write(root: Path, path: str, lines: Iterable[str]) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("\n".join(lines) + "\n")


def rows(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """The table as path -> row, labels as 0, 1 or None, segments as they stand."""
    table = manifest.table.astype(object).where(manifest.table.notna(), None)
    return {row["path"]: row for row in table.to_dict("records")}


def labels(row: dict[str, Any]) -> tuple[float | None, ...]:
    return row["label"], row["label_visual"], row["label_audio"], row["label_lipsync"]
