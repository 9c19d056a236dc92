"""Journals: answers kept as they come, a JSON object a line, from which a stopped run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evaluation.protocols import TableError


def kept(path: Path) -> list[dict[str, Any]]:
    """All that a journal holds; nothing where there is none.

    A run that is killed may leave half a line: it is cut off the file, for the next one would
    stand on it. Raises TableError for a file that is no journal.
    """
    if not path.exists():
        return []
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        file.truncate(whole)
    try:
        rows = [json.loads(line) for line in content[:whole].splitlines()]
    except ValueError:
        rows = [None]
    if not all(isinstance(row, dict) for row in rows):
        raise TableError(f"{path} is no journal of an earlier run: delete it, or move it away.")
    return rows
