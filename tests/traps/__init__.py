"""Awkward files, each made on the spot: what strangers, damage and malice put before a decoder.

`TRAPS` names a maker for each: it takes an empty folder and returns the path to judge. `OUTCOMES`
says how each must end: "ok", "abstain" or "error" with its reason code. Whoever wants many files
calls the makers of `FILES` (those that are regular files, made in a moment) as often as needed.

Each story has a module, which enters its traps as it is imported.
"""

from __future__ import annotations

from tests.traps import pictures, sound  # noqa: F401
from tests.traps.containers import CUTS, KINDS, flipped
from tests.traps.making import OUTCOMES, TRAPS, box, sample
from tests.traps.nofiles import LISTS, playlist

__all__ = [
    "COSTLY",
    "CUTS",
    "FILES",
    "KINDS",
    "LARGE",
    "LISTS",
    "NOT_FILES",
    "OUTCOMES",
    "TRAPS",
    "box",
    "flipped",
    "playlist",
    "sample",
]

NOT_FILES = {"fifo", "device", "directory", "unix_socket", "dangling_link", "circular_link"}
COSTLY = {"day_long", "edits_many", "sound_in_a_million_packets"}
"""A single one takes many seconds."""
LARGE = {"huge", "grows_huge", "metadata_of_50_mb", "size_jumps", "still_with_a_long_text"}
LARGE |= {f"still_bomb_{suffix}" for suffix in ("png", "jpg", "webp", "bmp")}
FILES = {name: make for name, make in TRAPS.items() if name not in NOT_FILES | COSTLY | LARGE}
