"""Is the clip fake? Log-loss, Brier score, ROC curve and what is read from it. numpy only.

All take `label` `[n]` (0 real, 1 fake) and `[n]` finite scores, one a clip: a `probability` in
[0, 1] where the figure needs one, else any `score` that is higher for fakes. A figure that needs
both classes is NaN where one is missing, every figure is NaN where there are no clips; clips with
tied scores are told apart by no figure, whatever their order. Raises ValueError for input that is
no table of labels and scores (see `checked`).
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.checks import checked

PRIOR_LOG_LOSS = float(np.log(2))
"""What an answer of 0.5 everywhere scores: 0.6931."""


def log_loss(label: np.ndarray, probability: np.ndarray, clip: float = 1e-15) -> float:
    """Mean negative log-likelihood in nats, probabilities clipped to [clip, 1 - clip].

    DFDC's score is this with fakes as 1; a clip of 1e-15 is next to none, 0.01 what many of its
    teams used. Defined for one class.
    """
    label, probability = checked(label, probability)
    if not len(label):
        return float("nan")
    p = np.clip(probability, clip, 1 - clip)
    return float(-np.mean(np.log(np.where(label == 1, p, 1 - p))))


def brier(label: np.ndarray, probability: np.ndarray) -> float:
    """Mean squared distance of probability and label, in [0, 1]; 0.25 for 0.5 everywhere (Brier,
    Monthly Weather Review 1950; the half of it that is common for two classes). Defined for one.
    """
    label, probability = checked(label, probability)
    return float(np.mean((probability - label) ** 2)) if len(label) else float("nan")


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Chance that a fake scores above a real clip, ties counting half (Mann-Whitney U)."""
    label, score = checked(label, score)
    real, fake = np.sort(score[label == 0]), score[label == 1]
    if not len(real) or not len(fake):
        return float("nan")
    below = np.searchsorted(real, fake, "left")
    up_to = np.searchsorted(real, fake, "right")
    return float((below + up_to).mean() / (2 * len(real)))


def roc(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(false-alarm rate, hit rate, threshold), each `[m]`, from nothing called fake (threshold
    infinity) to everything; a clip is called fake at or above the threshold. A point for each
    distinct score. The rate of a class that is missing is NaN throughout.
    """
    alarms, hits, thresholds = counts(label, score)
    with np.errstate(invalid="ignore"):
        return alarms / alarms[-1], hits / hits[-1], thresholds


def eer(label: np.ndarray, score: np.ndarray) -> float:
    """Equal error rate, in [0, 1]: where as many real clips are called fake as fakes real.

    The ROC curve's points are joined by straight lines and its crossing with the diagonal is
    taken. Programs that instead take the nearest point (ASVspoof's) differ by less than one clip.
    """
    alarms, hits, _ = roc(label, score)
    excess = alarms + hits - 1  # false alarms - misses: -1 at first, 1 at last, never falling
    if np.isnan(excess).any():
        return float("nan")
    after = int(np.argmax(excess >= 0))
    step = -excess[after - 1] / (excess[after] - excess[after - 1])
    return float(alarms[after - 1] + step * (alarms[after] - alarms[after - 1]))


def average_precision(label: np.ndarray, score: np.ndarray) -> float:
    """Precision averaged over the recall that each threshold adds, not interpolated, in [0, 1].

    A detector that knows nothing scores the share of fakes.
    """
    alarms, hits, _ = counts(label, score)
    if not alarms[-1] or not hits[-1]:
        return float("nan")
    precision = hits[1:] / (hits[1:] + alarms[1:])
    return float(np.sum(np.diff(hits) * precision) / hits[-1])


def tpr_at_fpr(label: np.ndarray, score: np.ndarray, fpr: float) -> float:
    """Share of the fakes found by the threshold that finds most with at most `fpr` of the real
    clips called fake. No threshold between points is made up, so that with fewer than 1 / fpr real
    clips none of them may be.
    """
    alarms, hits, _ = counts(label, score)
    if not alarms[-1] or not hits[-1]:
        return float("nan")
    return float(hits[alarms <= _allowed(fpr, int(alarms[-1]))].max() / hits[-1])


def threshold_at_false_alarms(label: np.ndarray, score: np.ndarray, rate: float) -> float:
    """The smallest threshold at which at most `rate` of the real clips score at or above it.

    Raises ValueError without real clips: decisions are made by this number.
    """
    label, score = checked(label, score)
    real = np.sort(score[label == 0])[::-1]
    if not len(real):
        raise ValueError("a false-alarm rate needs real clips")
    allowed = _allowed(rate, len(real))
    if allowed == len(real):
        return float(real[-1])
    return float(np.nextafter(real[allowed], np.inf))


def counts(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(real clips called fake, fakes called fake, threshold), each float `[m]`: `roc` in clips."""
    label, score = checked(label, score)
    order = np.argsort(-score, kind="stable")
    label, score = label[order], score[order]
    ends = np.flatnonzero(np.diff(score, append=-np.inf))  # of each run of equal scores
    hits = np.cumsum(label)[ends]
    alarms = ends + 1 - hits
    first = np.zeros(1)
    return np.r_[first, alarms], np.r_[first, hits], np.r_[np.inf, score[ends]]


def _allowed(rate: float, real: int) -> int:
    return int(np.floor(rate * real + 1e-9))  # 0.29 * 100 is 28.999...
