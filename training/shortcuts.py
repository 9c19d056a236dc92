"""Could the class be told without listening to the voice? A probe on everything but speech.

Detectors of synthetic speech have been found to read leading silence, duration or bandwidth
instead (Müller et al., "Speech is silver, silence is golden", 2021). A logistic regression on
those alone has to stay near chance on the very windows that a net is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import welch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from avfake.types import SAMPLE_RATE

FEATURES = ("loop", "lead", "trail", "level", "peak", "bandwidth", "top_band")


def shortcuts(samples: np.ndarray) -> np.ndarray:
    """float64 [7], in the order of `FEATURES`, of one window (float32 [n] at 16 kHz).

    Seconds after which the window repeats itself (its length if it does not), seconds of leading
    and of trailing silence, root mean square and peak in dB, the frequency in Hz below which 99%
    of the power lies, and the share of power above 7 kHz in dB.
    """
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.max(np.abs(samples)))
    first, last = (loud[0], loud[-1]) if len(loud) else (0, len(samples) - 1)
    level = 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-10)
    peak = 20 * np.log10(np.max(np.abs(samples)) + 1e-5)
    frequency, power = welch(samples, SAMPLE_RATE, nperseg=512)
    share = np.cumsum(power) / (np.sum(power) + 1e-20)
    top = 10 * np.log10(np.sum(power[frequency > 7000]) / (np.sum(power) + 1e-20) + 1e-10)
    bandwidth = frequency[np.searchsorted(share, 0.99)] if share[-1] > 0.99 else 0.0
    silences = (first / SAMPLE_RATE, (len(samples) - 1 - last) / SAMPLE_RATE)
    return np.array([loop_seconds(samples), *silences, level, peak, bandwidth, top])


def loop_seconds(samples: np.ndarray) -> float:
    """Seconds after which a window repeats its start, sample for sample; all of it if never."""
    start = samples[:64]
    # The first sample alone rules out almost every place at which a repetition could begin.
    for place in np.flatnonzero(samples[1 : len(samples) - 63] == start[0]) + 1:
        if np.array_equal(samples[place:], samples[: len(samples) - place]) and np.any(start):
            return place / SAMPLE_RATE
    return len(samples) / SAMPLE_RATE


def probe_auc(features: np.ndarray, labels: np.ndarray, groups: Sequence[str]) -> float:
    """Cross-validated AUC, no group on both sides of a fold. 0.5: the features say nothing.

    features: float [n, k]; labels: 0 or 1 [n]; groups: n names, at least 5 different ones.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_predict(
        model, features, labels, groups=groups, cv=GroupKFold(5), method="decision_function"
    )
    return float(roc_auc_score(labels, scores))
