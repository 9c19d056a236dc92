"""DFDC's weighted precision: precision where fakes are rare. numpy only."""

from __future__ import annotations

import numpy as np

from evaluation.metrics.classification import counts

ALPHA = 100.0
"""How much rarer fakes are in the world than in the test set, by DFDC."""


def log_weighted_precision(
    label: np.ndarray, score: np.ndarray, recall: float, alpha: float = ALPHA
) -> float:
    """log(wP), natural, at most 0: wP = TP / (TP + alpha FP), at the highest threshold that finds
    at least `recall` (in (0, 1]) of the fakes.

    Dolhansky et al. 2019 (DFDC preview, arXiv:1910.08854) and 2020 (arXiv:2006.07397), who give it
    at recalls 0.1, 0.5 and 0.9 with alpha 100. 0 where no real clip is called fake before; chance
    on a balanced set is -log(101) = -4.6. NaN where a class is missing.
    """
    alarms, hits, _ = counts(label, score)
    if not alarms[-1] or not hits[-1]:
        return float("nan")
    at = int(np.argmax(hits >= recall * hits[-1] - 1e-9))  # 0.55 * 100 is 55.00000000000001
    return float(np.log(hits[at] / (hits[at] + alpha * alarms[at])))
