"""Figures of merit for scored clips: log-loss, AUC, error rates. numpy only.

All take `label` (0 real, 1 fake) and either `probability` in [0, 1] or `logit`, one entry a clip.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

PRIOR_LOG_LOSS = float(np.log(2))
"""What an answer of 0.5 everywhere scores: 0.6931."""


def log_loss(label: np.ndarray, probability: np.ndarray, clip: float = 1e-6) -> float:
    """Mean negative log-likelihood in nats, probabilities clipped to [clip, 1 - clip].

    DFDC's score is this with fakes as 1. Raises ValueError on empty input.
    """
    label, probability = _checked(label, probability)
    p = np.clip(probability, clip, 1 - clip)
    return float(-np.mean(label * np.log(p) + (1 - label) * np.log(1 - p)))


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Chance that a fake scores above a real clip, ties counting half (Mann-Whitney U).

    NaN where only one class is there.
    """
    label, score = _checked(label, score)
    real, fake = np.sort(score[label == 0]), score[label == 1]
    if not len(real) or not len(fake):
        return float("nan")
    below = np.searchsorted(real, fake, "left")
    up_to = np.searchsorted(real, fake, "right")
    return float((below + up_to).mean() / (2 * len(real)))


def threshold_at_false_alarms(label: np.ndarray, score: np.ndarray, rate: float) -> float:
    """The smallest threshold at which at most `rate` of the real clips score at or above it."""
    label, score = _checked(label, score)
    real = np.sort(score[label == 0])[::-1]
    if not len(real):
        raise ValueError("a false-alarm rate needs real clips")
    allowed = int(np.floor(rate * len(real) + 1e-9))  # 0.29 * 100 is 28.999...
    if allowed == len(real):
        return float(real[-1])
    return float(np.nextafter(real[allowed], np.inf))


def grouped_interval(
    label: np.ndarray,
    score: np.ndarray,
    group: np.ndarray,
    figure: Callable[[np.ndarray, np.ndarray], float],
    draws: int = 500,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % bootstrap interval of `figure(label, score)`, people (groups) drawn with replacement.

    Draws that hold a single class are left out; (NaN, NaN) where hardly any hold both.
    """
    label, score = _checked(label, score)
    rng = np.random.default_rng(seed)
    _, index = np.unique(np.asarray(group).astype(str), return_inverse=True)
    members = [np.flatnonzero(index == i) for i in range(index.max() + 1)]
    values = []
    for _ in range(draws):
        drawn = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        if 0 < label[drawn].sum() < len(drawn):
            values.append(figure(label[drawn], score[drawn]))
    if len(values) < draws / 10:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _checked(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    label, score = np.asarray(label, float), np.asarray(score, float)
    if label.shape != score.shape or label.ndim != 1 or not len(label):
        raise ValueError("labels and scores must be two equally long, non-empty lists")
    if not np.isfinite(score).all() or not np.isin(label, (0, 1)).all():
        raise ValueError("scores must be finite and labels 0 or 1")
    return label, score
