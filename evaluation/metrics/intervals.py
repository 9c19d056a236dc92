"""How sure is a figure? Bootstrap over people, and DeLong's test of two AUCs. numpy only.

Clips of one person fail together. Drawn one by one they would make an interval look narrower than
it is, so people (groups) are drawn, each with all their clips (Field and Welsh 2007, JRSS B 69).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np

from evaluation.metrics.checks import checked

Figure = Callable[[np.ndarray, np.ndarray], float]


def grouped_interval(
    label: np.ndarray,
    score: np.ndarray,
    group: np.ndarray,
    figure: Figure,
    draws: int = 500,
    seed: int = 0,
) -> tuple[float, float]:
    """95% bootstrap interval (2.5 and 97.5% of the draws) of `figure(label, score)`, people
    (`group` `[n]`, anything that has a name) drawn with replacement.

    Draws in which the figure is NaN, such as an AUC of one class, are left out; (NaN, NaN) where it
    is in nine of ten, and where there are fewer than two people.
    """
    label, score = checked(label, score)
    return _percentiles([figure(label[rows], score[rows]) for rows in draw(group, draws, seed)])


def paired_interval(
    label: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    group: np.ndarray,
    figure: Figure,
    draws: int = 500,
    seed: int = 0,
) -> tuple[float, float]:
    """The same of `figure(label, first) - figure(label, second)`, both over the same draws: what
    makes a draw hard for both cancels out.
    """
    label, first = checked(label, first)
    label, second = checked(label, second)
    return _percentiles(
        [
            figure(label[rows], first[rows]) - figure(label[rows], second[rows])
            for rows in draw(group, draws, seed)
        ]
    )


def draw(group: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """`draws` times the rows (int `[about n]`) of as many groups as there are, drawn with
    replacement; none where there are fewer than two groups. The same for the same seed.
    """
    _, index, size = np.unique(
        np.asarray(group).astype(str), return_inverse=True, return_counts=True
    )
    if len(size) < 2:
        return
    rows = np.argsort(index, kind="stable")  # group by group
    start = np.cumsum(size) - size
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        drawn = rng.integers(0, len(size), len(size))
        length = size[drawn]
        place = np.cumsum(length) - length  # where each drawn group begins in the answer
        yield rows[np.repeat(start[drawn] - place, length) + np.arange(length.sum())]


@dataclass(frozen=True)
class DeLong:
    """Two AUCs on the same clips; all NaN but the AUCs where a class has fewer than two clips."""

    first: float
    second: float
    difference: float  # first - second
    low: float  # 95% interval of the difference
    high: float
    z: float
    p: float  # two-sided: how often as large a difference comes of none


def delong(label: np.ndarray, first: np.ndarray, second: np.ndarray) -> DeLong:
    """DeLong et al. 1988 (Biometrics 44) on two detectors' scores `[n]`, by the mid-ranks of Sun
    and Xu 2014 (IEEE Signal Processing Letters 21), in O(n log n).

    Takes every clip for a witness of its own: with many clips a person `paired_interval` is the
    more honest. Two detectors that rank all clips alike differ by 0 with p = 1.
    """
    label, first = checked(label, first)
    label, second = checked(label, second)
    fake = label == 1
    m, n = int(fake.sum()), int((~fake).sum())
    nan = float("nan")
    if not m or not n:
        return DeLong(nan, nan, nan, nan, nan, nan, nan)
    scores = np.stack([first, second])
    ranks = np.stack([_midranks(row) for row in scores])
    above = (ranks[:, fake] - [_midranks(row) for row in scores[:, fake]]) / n
    below = 1 - (ranks[:, ~fake] - [_midranks(row) for row in scores[:, ~fake]]) / m
    areas = above.mean(axis=1)
    difference = float(areas[0] - areas[1])
    if m < 2 or n < 2:
        return DeLong(float(areas[0]), float(areas[1]), difference, nan, nan, nan, nan)
    variance = (above[0] - above[1]).var(ddof=1) / m + (below[0] - below[1]).var(ddof=1) / n
    error = sqrt(variance)
    if error > 0:
        z = difference / error
    else:
        z = 0.0 if difference == 0 else float(np.copysign(np.inf, difference))
    return DeLong(
        first=float(areas[0]),
        second=float(areas[1]),
        difference=difference,
        low=difference - 1.959964 * error,
        high=difference + 1.959964 * error,
        z=z,
        p=erfc(abs(z) / sqrt(2)),
    )


def _midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing the middle of theirs."""
    _, index, size = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(size) - (size - 1) / 2)[index]


def _percentiles(values: list[float]) -> tuple[float, float]:
    known = np.array([value for value in values if not np.isnan(value)])
    if not len(known) or len(known) < len(values) / 10:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)
