"""A Prediction as text for people: verdict first, then every branch with its course over time."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from avfake.terminal import visible
from avfake.types import SUSPICIOUS, MediaInfo, Prediction, Window, percent, probability

NAMES = {"visual": "picture", "audio": "voice", "lipsync": "lip-sync"}
WARNINGS = {
    "partial_decode": "Part of the file could not be decoded; the answer is for the rest.",
    "gap": "The picture stands still or is missing for more than ten seconds at a time.",
    "faces_left_out": "There are more faces than are followed; some were not judged.",
    "branch_failed": "A branch failed; the answer is from the others.",
    "retried": "It was judged at the second attempt: the first one lost its worker.",
    "truncated": "Only the beginning was looked at (an hour, where no less was asked for; of an "
    "animated image, the first picture).",
    "streams_left_out": "There are more pictures or sounds in the file; the first of each counts.",
}
_STYLES = {"likely fake": "bold red", "likely real": "bold green", "uncertain": "bold yellow"}
_BARS = "▁▂▃▄▅▆▇█"
_STRIP = 24  # columns at most: the whole table fits 80


def render(prediction: Prediction) -> RenderableType:
    """The whole answer for one file, for a rich console."""
    name = Text(visible(os.path.basename(prediction.path) or prediction.path), "bold")
    if prediction.media is not None:
        name.append("  " + _media(prediction.media), "dim not bold")
    parts: list[RenderableType] = [name]
    if prediction.logit is None or prediction.verdict is None:
        what = "not judged" if prediction.status == "abstain" else "error"
        parts.append(
            Text.assemble("  ", (what, "bold yellow"), f"  {visible(prediction.message or '')}")
        )
        return Group(*parts, Text())
    parts.append(
        Text.assemble(
            "  ",
            (prediction.verdict, _STYLES[prediction.verdict]),
            f"  probability of a fake {percent(probability(prediction.logit))}",
        )
    )
    parts.append(_branches(prediction))
    if prediction.segments:
        worst = sorted(prediction.segments, key=lambda s: -s.logit)[:3]
        spans = ", ".join(
            f"{s.start:.1f}-{s.end:.1f} s ({NAMES[s.branch]} {percent(probability(s.logit))})"
            for s in worst
        )
        parts.append(Text(f"  most suspicious: {spans}"))
    parts += [Text("  " + WARNINGS.get(w, w), "yellow") for w in prediction.warnings]
    spent, bundle = prediction.seconds.get("total", 0.0), prediction.bundle
    parts.append(Text(f"  {spent:.1f} s with models {bundle['name']} {bundle['version']}", "dim"))
    return Group(*parts, Text())


def strip(windows: Sequence[Window], duration: float) -> Text:
    """One character a second (or more, for a long clip): how fake the highest window there is.

    A dot is a stretch that the branch did not judge.
    """
    columns = max(1, min(_STRIP, round(duration)))
    text = Text()
    for column in range(columns):
        start, end = (duration * (column + side) / columns for side in (0, 1))
        here = [w for w in windows if w.start < end and w.end > start]
        if not here:
            text.append("·", "dim")
            continue
        # The windows centred here, else the one centred nearest: all that touch would blur.
        inside = [w for w in here if start <= (w.start + w.end) / 2 < end]
        near = min(abs((w.start + w.end) - (start + end)) for w in here)
        nearest = [w for w in here if abs((w.start + w.end) - (start + end)) <= near]
        value = max(probability(w.logit) for w in inside or nearest)
        colour = "red" if value >= SUSPICIOUS else "yellow" if value >= 0.5 else "green"
        text.append(_BARS[min(7, int(value * 8))], colour)
    return text


def _branches(prediction: Prediction) -> Table:
    duration = _duration(prediction)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("  looked at")
    table.add_column("fake", justify="right")
    table.add_column(f"0 s to {duration:.0f} s" if duration >= 1 else "", no_wrap=True)
    table.add_column("")
    for name, score in prediction.branches.items():
        known = score.logit is not None
        value = "-" if score.logit is None else percent(probability(score.logit))
        course = strip(score.windows, duration) if known and duration >= 1 else Text()
        table.add_row(f"  {NAMES[name]}", value, course, score.note())
    return table


def _duration(prediction: Prediction) -> float:
    ends = [w.end for score in prediction.branches.values() for w in score.windows]
    stated = prediction.media.duration if prediction.media else None
    return stated or max(ends, default=0.0)


def _media(media: MediaInfo) -> str:
    parts = []
    if media.duration:
        parts.append(f"{media.duration:.1f} s")
    if media.width:
        parts.append(f"{media.width}x{media.height}")
    if media.fps:
        parts.append(f"{media.fps:.4g} fps")
    codecs = [codec for codec in (media.video_codec, media.audio_codec) if codec]
    if codecs:
        parts.append(" + ".join(codecs))
    return ", ".join(parts)
