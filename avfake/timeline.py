"""A clip's answers laid out over its time: one lane a face, one for the voice, one for lip-sync.

Places are shares of the clip's length in [0, 1], so that whoever draws them needs no clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from avfake.types import BRANCHES, SUSPICIOUS, BranchScore, Prediction, Window, probability

FACE_LANES = 6
"""Faces with a lane of their own, the most suspicious; the others share one."""
MOST_BARS = 240
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_TICKS = 8


@dataclass(frozen=True)
class Bar:
    """A stretch [left, right) of a lane, and the probability of a fake there."""

    left: float
    right: float
    value: float


@dataclass(frozen=True)
class Lane:
    """The course of one branch, for one face where it looks at faces.

    `tracks`: the faces it shows, none for sound; `value`: the probability over all of it, None
    where there is no answer; `note`: why not, or empty. `suspicious`: the runs of bars that reach
    `SUSPICIOUS`, each with its highest value.
    """

    branch: str
    tracks: tuple[int, ...]
    value: float | None
    note: str
    bars: tuple[Bar, ...]

    @property
    def suspicious(self) -> tuple[Bar, ...]:
        runs: list[Bar] = []
        for bar in self.bars:
            if bar.value < SUSPICIOUS:
                continue
            if runs and bar.left <= runs[-1].right + 1e-6:
                runs[-1] = Bar(runs[-1].left, bar.right, max(bar.value, runs[-1].value))
            else:
                runs.append(bar)
        return tuple(runs)


def length_of(prediction: Prediction) -> float:
    """Seconds of the time axis: the clip's length, or as far as it was judged if that is more."""
    stated = prediction.media.duration if prediction.media is not None else None
    ends = [window.end for score in prediction.branches.values() for window in score.windows]
    return max([stated or 0.0, *ends, *(track.end for track in prediction.tracks)])


def lanes(prediction: Prediction, length: float) -> tuple[Lane, ...]:
    """All lanes over an axis of `length` seconds: faces as they appear, voice, lip-sync."""
    found: list[Lane] = []
    for branch in BRANCHES:
        score = prediction.branches.get(branch)
        if score is None:
            continue
        if branch == "visual" and score.logit is not None:
            found += _faces(prediction, score, length)
        else:
            tracks = tuple(sorted({w.track for w in score.windows if w.track is not None}))
            value = None if score.logit is None else probability(score.logit)
            note = score.note() if score.logit is None else ""
            found.append(Lane(branch, tracks, value, note, bars(score.windows, length)))
    return tuple(found)


def bars(windows: Sequence[Window], length: float) -> tuple[Bar, ...]:
    """Windows as bars side by side.

    Where windows overlap, each instant is shown by the window whose middle is nearer. A long clip
    has MOST_BARS bars, each with the highest value in it: the worst must not be hidden.
    """
    ordered = sorted(windows, key=lambda window: window.start + window.end)
    placed: list[Bar] = []
    for index, window in enumerate(ordered):
        start, end = window.start, window.end
        if index and ordered[index - 1].end > start:
            start = max(start, _between(ordered[index - 1], window))
        if index + 1 < len(ordered) and ordered[index + 1].start < end:
            end = min(end, _between(window, ordered[index + 1]))
        if (bar := _bar(window, start, end, length)).right > bar.left:
            placed.append(bar)
    return tuple(placed) if len(placed) <= MOST_BARS else _highest(placed)


def ticks(length: float) -> tuple[tuple[float, str], ...]:
    """(place, label) of whole and even times along the axis, at most nine."""
    step = next((s for s in _STEPS if length / s <= _TICKS), math.ceil(length / _TICKS))
    count = int(length / step + 1e-9)
    return tuple((i * step / length, clock(i * step)) for i in range(count + 1))


def clock(seconds: float, places: int = 0) -> str:
    """Minutes and seconds as players show them: 0:07, 12:30, 1:02:03; 0:07.6 with one place."""
    total = round(max(0.0, seconds) * 10**places)
    whole, part = divmod(total, 10**places)
    text = f"{whole // 60 % 60}:{whole % 60:02d}"
    if whole >= 3600:
        text = f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{text}.{part:0{places}d}" if places else text


def _faces(prediction: Prediction, score: BranchScore, length: float) -> list[Lane]:
    logits = prediction.track_logits
    order = sorted(logits, key=lambda track: -logits[track])
    # One more face than lanes is shown, too: a lane of others that holds one face says less.
    own = order if len(order) <= FACE_LANES + 1 else order[:FACE_LANES]
    others = tuple(order[len(own) :])
    found = []
    for tracks in [*((track,) for track in sorted(own)), *([others] if others else [])]:
        here = [window for window in score.windows if window.track in tracks]
        value = max(probability(logits[track]) for track in tracks)
        if len(tracks) == 1:
            shown = bars(here, length)
        else:  # faces side by side
            shown = _highest([_bar(w, w.start, w.end, length) for w in here])
        found.append(Lane("visual", tracks, value, "", shown))
    return found


def _bar(window: Window, start: float, end: float, length: float) -> Bar:
    left, right = (min(1.0, max(0.0, time / length)) for time in (start, end))
    return Bar(left, right, probability(window.logit))


def _highest(placed: Sequence[Bar]) -> tuple[Bar, ...]:
    """Bars that may lie over each other as MOST_BARS columns, the highest value in each."""
    columns: dict[int, float] = {}
    for bar in placed:
        first = int(bar.left * MOST_BARS)
        for column in range(first, max(first + 1, math.ceil(bar.right * MOST_BARS))):
            columns[column] = max(bar.value, columns.get(column, 0.0))
    return tuple(
        Bar(column / MOST_BARS, (column + 1) / MOST_BARS, value)
        for column, value in sorted(columns.items())
    )


def _between(one: Window, other: Window) -> float:
    """Halfway between the middles of two windows."""
    return (one.start + one.end + other.start + other.end) / 4
