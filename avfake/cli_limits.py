"""The options that set the limits of a file, for every command that opens any."""

from __future__ import annotations

import argparse
import re
from typing import TypeVar

from avfake.limits import Limits

T = TypeVar("T", int, float)
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def add_limits(parser: argparse.ArgumentParser, memory: bool = False) -> None:
    """Add the options; `memory`: also that of commands whose files are judged in workers."""
    standard = Limits()
    group = parser.add_argument_group("limits (a file beyond them is refused, with its reason)")
    group.add_argument(
        "--max-pixels",
        type=_count,
        default=standard.pixels,
        metavar="N",
        help=f"largest picture, width times height (default: {standard.pixels}; too_large)",
    )
    group.add_argument(
        "--max-seconds",
        type=_seconds,
        default=standard.seconds,
        metavar="S",
        help="of a longer clip, only the first S seconds are judged, with the warning truncated "
        f"(default: {standard.seconds:.0f})",
    )
    group.add_argument(
        "--max-bytes",
        type=_size,
        default=standard.bytes,
        metavar="N[KMGT]",
        help=f"largest file (default: {_written(standard.bytes)}; file_too_large)",
    )
    group.add_argument(
        "--max-decode-seconds",
        type=_seconds,
        default=standard.decode_seconds,
        metavar="S",
        help="longest time that decoding one file may take "
        f"(default: {standard.decode_seconds:.0f}; decode_too_slow)",
    )
    if memory:
        group.add_argument(
            "--max-memory",
            type=_size,
            default=standard.memory,
            metavar="N[KMGT]",
            help="memory of a worker process, models included "
            f"(default: {_written(standard.memory)}; out_of_memory)",
        )


def limits_of(options: argparse.Namespace) -> Limits:
    """The limits that were asked for."""
    return Limits(
        pixels=options.max_pixels,
        seconds=options.max_seconds,
        bytes=options.max_bytes,
        decode_seconds=options.max_decode_seconds,
        memory=getattr(options, "max_memory", Limits.memory),
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no count, such as 40000000")
    return _more_than_nothing(int(text), text)


def _seconds(text: str) -> float:
    try:
        return _more_than_nothing(float(text), text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds") from None


def _size(text: str) -> int:
    """Bytes: 500000, 300M, 1.5G."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if parts is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 500M or 2G")
    return _more_than_nothing(int(float(parts[1]) * UNITS[parts[2].upper()]), text)


def _more_than_nothing(value: T, text: str) -> T:
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not more than 0")
    return value


def _written(size: int) -> str:
    return f"{size >> 30}G"
