"""Journals: answers kept as they come, a JSON object a line, from which a stopped run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avfake.lines import Lines
from evaluation.protocols import TableError


def kept(path: Path) -> list[dict[str, Any]]:
    """All that a journal holds; nothing where there is none.

    A run that is killed may leave half a line: it is cut off the file, for the next one would
    stand on it. Raises TableError for a file that is no journal, AvfakeError `in_use` where another
    run is writing it.
    """
    if not path.exists():
        return []
    lines = Lines(path)
    try:
        return list(lines.read())
    except ValueError:
        text = f"{path} is no journal of an earlier run: delete it, or move it away."
        raise TableError(text) from None
    finally:
        lines.close()
