"""Text of strangers, made fit for a terminal: a file's name may hold more than letters."""

from __future__ import annotations

import unicodedata

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


def _written_out(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")
