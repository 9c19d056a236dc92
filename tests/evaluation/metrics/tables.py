"""Scored clips to try figures of merit on."""

from __future__ import annotations

import numpy as np


def drawn(count: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of a middling detector; tied ones have eleven values at most."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, count)
    label[:2] = 0, 1
    score = np.clip(rng.normal(0.4 + 0.2 * label, 0.2), 0, 1)
    return label, np.round(score, 1) if ties else score
