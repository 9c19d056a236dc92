"""What every figure of merit asks of its input."""

from __future__ import annotations

import numpy as np


def checked(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 `[n]`, n >= 0. Raises ValueError where lengths differ, a label is not 0 or 1,
    or a score is not finite: a missing answer is the caller's to leave out or to fill in.
    """
    label, score = np.asarray(label, float), np.asarray(score, float)
    if label.shape != score.shape or label.ndim != 1:
        raise ValueError("labels and scores must be two equally long lists")
    if not np.isfinite(score).all() or not ((label == 0) | (label == 1)).all():
        raise ValueError("scores must be finite and labels 0 or 1")
    return label, score
