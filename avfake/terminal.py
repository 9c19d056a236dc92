"""Text of strangers, made fit for a terminal: a file's name may hold more than letters."""

from __future__ import annotations

import logging
import unicodedata
from typing import TextIO

_HIDDEN = frozenset(("Cc", "Cf", "Zl", "Zp"))
_JOINERS = "\u200c\u200d"  # Persian, Indic scripts and emoji are written with them


def visible(text: str) -> str:
    """The same text with what steers a terminal or hides in one written out: `\\x1b`, `\\u202e`.

    Control characters (with them escape sequences and line breaks), changes of direction and
    characters of no width; letters of all scripts stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written_out(character) for character in text)


def log_to(stream: TextIO, level: int, force: bool = False) -> None:
    """Send this process's log to `stream`, with what it names made visible; `force`: also where it
    goes somewhere else already."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=force)


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = visible(record.message)
        return super().formatMessage(record)


def _written_out(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")
