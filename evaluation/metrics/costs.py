"""What wrong decisions cost: ASVspoof 5's DCF, and Cllr. numpy only.

ASVspoof scores are higher for bona fide speech; here fakes are 1 and score higher. The mapping:

| ASVspoof 5                          | here                                             |
|-------------------------------------|--------------------------------------------------|
| bona fide, spoof                    | real (0), fake (1)                               |
| score s, log-likelihood ratio of    | -logit: the logit is the log-likelihood ratio of |
| bona fide against spoof             | fake against real, so log-odds at 50:50          |
| miss: bona fide rejected            | false alarm: a real clip called fake             |
| false alarm: spoof accepted         | miss: a fake called real                         |

min_dcf and act_dcf follow the evaluation plan of ASVspoof 5 (eq. 3 there and its evaluation
package; Wang et al. 2024, arXiv:2408.08739): normalised by the cheaper of accepting or rejecting
everything, so that 1 is what a detector costs that does not listen.
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.checks import checked
from evaluation.metrics.classification import roc

P_SPOOF, C_MISS, C_FA = 0.05, 1.0, 10.0
"""ASVspoof 5: prior of spoofs, cost of rejecting bona fide speech, cost of accepting a spoof."""


def log_odds(probability: np.ndarray, clip: float = 1e-6) -> np.ndarray:
    """log(p / (1 - p)) of probabilities clipped to [clip, 1 - clip], so that it is finite."""
    p = np.clip(np.asarray(probability, float), clip, 1 - clip)
    return np.log(p) - np.log1p(-p)


def min_dcf(
    label: np.ndarray,
    score: np.ndarray,
    p_spoof: float = P_SPOOF,
    c_miss: float = C_MISS,
    c_fa: float = C_FA,
) -> float:
    """Normalised detection cost at the best threshold, in [0, 1]; any score higher for fakes.

    Calibration does not matter to it. NaN where a class is missing.
    """
    false_alarms, hits, _ = roc(label, score)
    cost = c_miss * (1 - p_spoof) * false_alarms + c_fa * p_spoof * (1 - hits)
    return float(cost.min() / min(c_miss * (1 - p_spoof), c_fa * p_spoof))


def act_dcf(
    label: np.ndarray,
    logit: np.ndarray,
    p_spoof: float = P_SPOOF,
    c_miss: float = C_MISS,
    c_fa: float = C_FA,
) -> float:
    """Normalised detection cost at the threshold that theory gives, at least `min_dcf`.

    `logit` is a log-likelihood ratio of fake against real; a clip is called fake above log(beta),
    beta = c_miss (1 - p_spoof) / (c_fa p_spoof), 1.9 by default. NaN where a class is missing.
    """
    label, logit = checked(label, logit)
    called = logit > np.log(c_miss * (1 - p_spoof) / (c_fa * p_spoof))
    real, fake = called[label == 0], called[label == 1]
    if not len(real) or not len(fake):
        return float("nan")
    cost = c_miss * (1 - p_spoof) * real.mean() + c_fa * p_spoof * (1 - fake.mean())
    return float(cost / min(c_miss * (1 - p_spoof), c_fa * p_spoof))


def cllr(label: np.ndarray, logit: np.ndarray) -> float:
    """Cost of log-likelihood ratios in bits, >= 0 (Brümmer and du Preez 2006, Computer Speech &
    Language 20): the log-loss of both classes weighing the same, over log 2. Saying nothing (logit
    0) costs 1; what is above 1 would better not have been said. NaN where a class is missing.
    """
    label, logit = checked(label, logit)
    real, fake = logit[label == 0], logit[label == 1]
    if not len(real) or not len(fake):
        return float("nan")
    nats = np.logaddexp(0, real).mean() + np.logaddexp(0, -fake).mean()
    return float(nats / (2 * np.log(2)))
