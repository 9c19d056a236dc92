"""Do 70 of 100 clips called 70% fake turn out fake? numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.metrics.checks import checked


@dataclass(frozen=True)
class Bin:
    """Clips of like probability: what was said of them and what they were.

    `low` and `high` are the least and the greatest probability among them.
    """

    probability: float  # mean, in [0, 1]
    fakes: float  # share of fakes, in [0, 1]
    count: int
    low: float
    high: float


def reliability(label: np.ndarray, probability: np.ndarray, bins: int = 10) -> list[Bin]:
    """The points of a reliability diagram, from the least probability on; [] without clips.

    Bins of equal mass: between the quantiles of `probability` `[n]`, so that a detector which says
    0.99 of nearly everything is still judged by `bins` points. Equal probabilities share a bin,
    hence there may be fewer. Defined for one class.
    """
    label, probability = checked(label, probability)
    if not len(label):
        return []
    inner = np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1])
    index = np.searchsorted(inner, probability)
    return [
        Bin(
            probability=float(probability[index == i].mean()),
            fakes=float(label[index == i].mean()),
            count=int((index == i).sum()),
            low=float(probability[index == i].min()),
            high=float(probability[index == i].max()),
        )
        for i in np.unique(index)
    ]


def ece(label: np.ndarray, probability: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error, in [0, 1]: how far what was said lies from what was, over the
    bins of `reliability`, weighted by clips (Naeini et al. 2015, AAAI; bins of equal mass as in
    Nixon et al. 2019, arXiv:1904.01685). NaN without clips.

    Biased upwards: a perfectly calibrated detector has some 0.1 with 10 bins of 10 clips.
    """
    found = reliability(label, probability, bins)
    if not found:
        return float("nan")
    gaps = [part.count * abs(part.probability - part.fakes) for part in found]
    return float(sum(gaps) / sum(part.count for part in found))
