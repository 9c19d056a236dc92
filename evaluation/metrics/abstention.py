"""What a detector that may abstain is worth: how much it answers, and how well. numpy only.

`probability` is `[n]` with NaN for a clip that got no answer; `label` `[n]` is 0 or 1.
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.checks import checked


def coverage(probability: np.ndarray) -> float:
    """Share of the clips that got an answer, in [0, 1]; NaN without clips."""
    answered = ~np.isnan(np.asarray(probability, float))
    return float(answered.mean()) if len(answered) else float("nan")


def at_prior(probability: np.ndarray, prior: float = 0.5) -> np.ndarray:
    """`[n]` with `prior` for every clip that got no answer: what a submission has to say of it."""
    probability = np.asarray(probability, float)
    return np.where(np.isnan(probability), prior, probability)


def risk_coverage(label: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(coverage, risk), each `[answered]`: of the surest 1, 2, ... clips, their share of all n and
    the share of them that 0.5 as the threshold gets wrong (El-Yaniv and Wiener 2010, JMLR 11).

    Sure is far from 0.5, and 0.5 itself half wrong. Among equally sure clips the risk is what is
    expected of a random order. Clips without an answer are never covered: the curve ends early.
    Defined for one class. Raises ValueError as `checked`.
    """
    label, probability = np.asarray(label, float), np.asarray(probability, float)
    total = len(probability)
    answered = ~np.isnan(probability)
    if label.shape == answered.shape:
        label, probability = label[answered], probability[answered]
    label, probability = checked(label, probability)
    wrong = np.where(probability == 0.5, 0.5, (probability > 0.5) != (label == 1))
    # Rounded, for 0.2 and 0.8 are equally sure but 0.5 - 0.2 is not 0.8 - 0.5.
    sure = np.round(np.abs(probability - 0.5), 12)
    _, tie, size = np.unique(-sure, return_inverse=True, return_counts=True)
    expected = np.bincount(tie, wrong) / size
    risks = np.cumsum(np.repeat(expected, size)) / np.arange(1, len(wrong) + 1)
    return np.arange(1, len(wrong) + 1) / max(total, 1), risks


def area_under_risk_coverage(label: np.ndarray, probability: np.ndarray) -> float:
    """AURC, in [0, 1], less is better: the mean of `risk_coverage`'s risks over the clips that got
    an answer (Geifman et al. 2019, arXiv:1805.08206). NaN without any.

    Read it beside `coverage`: whoever answers only what is easy has a small one.
    """
    _, risks = risk_coverage(label, probability)
    return float(risks.mean()) if len(risks) else float("nan")
