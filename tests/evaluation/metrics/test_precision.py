"""DFDC's weighted precision against its paper's table, scikit-learn, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.metrics.precision import log_weighted_precision
from tests.evaluation.metrics.tables import drawn

sklearn_metrics = pytest.importorskip("sklearn.metrics")


@pytest.mark.parametrize(
    ("precision", "published"), [(0.833, -3.044), (0.930, -2.140), (0.784, -3.352)]
)
def test_the_papers_baselines(precision: float, published: float) -> None:
    """Precision and log(wP) of TamperNet and of XceptionNet on faces and whole pictures, as the
    DFDC preview gives them (arXiv:1910.08854), from as many clips as give that precision.
    """
    right = round(1000 * precision)
    label = np.r_[np.ones(right), np.zeros(1000 - right), np.zeros(200)]
    score = np.r_[np.ones(1000), np.zeros(200)]
    rounding = 0.0005 / (precision * (1 - precision))
    found = log_weighted_precision(label, score, recall=1)
    assert found == pytest.approx(published, abs=rounding + 0.0005)


@pytest.mark.parametrize("recall", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("ties", [False, True])
def test_alpha_one_is_scikit_learns_precision(recall: float, ties: bool) -> None:
    label, score = drawn(300, 2, ties)
    precision, recalls, _ = sklearn_metrics.precision_recall_curve(label, score)
    highest = np.flatnonzero(recalls >= recall)[-1]  # recall falls with the threshold
    found = log_weighted_precision(label, score, recall, alpha=1)
    assert found == pytest.approx(math.log(precision[highest]))


def test_by_hand() -> None:
    """From the top: fake, fake, real, fake, fake, real."""
    label, score = np.array([1, 1, 0, 1, 1, 0]), np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.1])
    assert log_weighted_precision(label, score, 0.1) == 0
    assert log_weighted_precision(label, score, 0.5) == 0
    assert log_weighted_precision(label, score, 0.75) == pytest.approx(math.log(3 / 103))
    assert log_weighted_precision(label, score, 0.9) == pytest.approx(math.log(4 / 104))
    assert log_weighted_precision(label, score, 0.9, alpha=10) == pytest.approx(math.log(4 / 14))


def test_a_recall_is_reached_in_whole_clips() -> None:
    """55 of 100 fakes are 0.55 of them, though 0.55 * 100 is a little more than 55."""
    label = np.r_[np.ones(55), 0, np.ones(45)]
    assert log_weighted_precision(label, -np.arange(101.0), 0.55) == 0


@pytest.mark.parametrize("label", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_is_not_a_number(label: list[int]) -> None:
    assert math.isnan(log_weighted_precision(np.array(label), np.arange(float(len(label))), 0.5))
