"""Figures of merit against scikit-learn and against numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.metrics.classification import (
    PRIOR_LOG_LOSS,
    auc,
    average_precision,
    brier,
    eer,
    log_loss,
    roc,
    threshold_at_false_alarms,
    tpr_at_fpr,
)
from tests.evaluation.metrics.tables import drawn

sklearn_metrics = pytest.importorskip("sklearn.metrics")
TABLES = [(seed, ties) for seed in range(4) for ties in (False, True)]
HAND = np.array([0, 0, 1, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.9])
"""From the top: two fakes, one real, one fake, two real."""


@pytest.mark.parametrize(("seed", "ties"), TABLES)
def test_figures_are_scikit_learns(seed: int, ties: bool) -> None:
    label, score = drawn(200, seed, ties)
    assert auc(label, score) == pytest.approx(sklearn_metrics.roc_auc_score(label, score))
    clipped = np.clip(score, 1e-15, 1 - 1e-15)
    assert log_loss(label, score) == pytest.approx(sklearn_metrics.log_loss(label, clipped))
    clipped = np.clip(score, 0.01, 0.99)
    assert log_loss(label, score, 0.01) == pytest.approx(sklearn_metrics.log_loss(label, clipped))
    assert brier(label, score) == pytest.approx(sklearn_metrics.brier_score_loss(label, score))
    expected = sklearn_metrics.average_precision_score(label, score)
    assert average_precision(label, score) == pytest.approx(expected)


@pytest.mark.parametrize(("seed", "ties"), TABLES)
def test_the_curve_is_scikit_learns(seed: int, ties: bool) -> None:
    label, score = drawn(200, seed, ties)
    expected = sklearn_metrics.roc_curve(label, score, drop_intermediate=False)
    for ours, theirs in zip(roc(label, score), expected, strict=True):
        np.testing.assert_allclose(ours, theirs)


@pytest.mark.parametrize(("seed", "ties"), TABLES)
def test_the_equal_error_rate_lies_on_scikit_learns_curve(seed: int, ties: bool) -> None:
    """Looked for by halving along the curve, drawn as a line through its points."""
    label, score = drawn(200, seed, ties)
    alarms, hits, _ = sklearn_metrics.roc_curve(label, score)
    along = np.arange(len(alarms))
    low, high = 0.0, along[-1]
    for _ in range(60):
        middle = (low + high) / 2
        if np.interp(middle, along, alarms) < 1 - np.interp(middle, along, hits):
            low = middle
        else:
            high = middle
    assert eer(label, score) == pytest.approx(np.interp(low, along, alarms), abs=1e-9)


def test_the_equal_error_rate_by_hand() -> None:
    assert eer(*HAND) == pytest.approx(
        1 / 3
    )  # at 0.6 one real of three is called fake, one fake real
    label = np.array([0, 0, 1, 1])
    assert eer(label, np.array([1, 2, 3, 4])) == 0
    assert eer(label, np.array([3, 4, 1, 2])) == 1
    assert eer(label, np.zeros(4)) == pytest.approx(0.5)  # half of the way along the diagonal
    # Points (0, 0), (0, 1/2), (1/2, 1/2), (1, 1): crosses x + y = 1 at (1/2, 1/2).
    assert eer(label, np.array([1, 3, 1, 4])) == pytest.approx(0.5)
    # One real and three fakes, (0, 1/3), (1, 1): crosses at x = (1 - 1/3) / (1 + 2/3).
    assert eer(np.array([0, 1, 1, 1]), np.array([1, 1, 1, 2])) == pytest.approx(0.4)


@pytest.mark.parametrize("most", [0.0, 0.01, 0.05, 0.29, 1.0])
@pytest.mark.parametrize("ties", [False, True])
def test_hits_at_a_false_alarm_rate_are_read_off_scikit_learns_curve(
    most: float, ties: bool
) -> None:
    label, score = drawn(300, 7, ties)
    alarms, hits, _ = sklearn_metrics.roc_curve(label, score, drop_intermediate=False)
    assert tpr_at_fpr(label, score, most) == pytest.approx(hits[alarms <= most].max())


def test_hits_at_a_false_alarm_rate_by_hand() -> None:
    assert tpr_at_fpr(*HAND, 0.0) == pytest.approx(2 / 3)
    assert tpr_at_fpr(*HAND, 0.3) == pytest.approx(2 / 3)
    assert tpr_at_fpr(*HAND, 1 / 3) == 1
    assert tpr_at_fpr(np.array([0, 1]), np.array([0.9, 0.1]), 0.5) == 0


def test_average_precision_by_hand() -> None:
    assert average_precision(*HAND) == pytest.approx((1 / 1 + 2 / 2 + 3 / 4) / 3)
    assert average_precision(np.array([0, 0, 0, 1]), np.zeros(4)) == pytest.approx(1 / 4)


def test_log_loss_by_hand() -> None:
    expected = -(math.log(0.8) + math.log(1 - 0.3) + math.log(0.1)) / 3
    assert log_loss(np.array([1, 0, 1]), np.array([0.8, 0.3, 0.1])) == pytest.approx(expected)
    assert log_loss(np.array([0, 1, 1]), np.full(3, 0.5)) == pytest.approx(PRIOR_LOG_LOSS)
    assert round(PRIOR_LOG_LOSS, 4) == 0.6931


def test_log_loss_of_a_sure_mistake_is_finite() -> None:
    assert log_loss(np.array([1]), np.array([0.0])) == pytest.approx(15 * math.log(10))
    assert log_loss(np.array([1]), np.array([1.0])) == pytest.approx(0, abs=2e-6)
    assert log_loss(np.array([1]), np.array([0.0]), clip=1e-6) == pytest.approx(6 * math.log(10))
    assert log_loss(np.array([0]), np.array([1.0]), clip=0.01) == pytest.approx(-math.log(0.01))


def test_brier_by_hand() -> None:
    expected = (0.2**2 + 0.3**2) / 2
    assert brier(np.array([1, 0]), np.array([0.8, 0.3])) == pytest.approx(expected)
    assert brier(np.array([1, 0, 0]), np.full(3, 0.5)) == 0.25


def test_auc_by_hand() -> None:
    label = np.array([0, 0, 1, 1])
    assert auc(label, np.array([1, 2, 3, 4])) == 1.0
    assert auc(label, np.array([4, 3, 2, 1])) == 0.0
    assert auc(label, np.array([5, 5, 5, 5])) == 0.5
    assert auc(label, np.array([1, 3, 2, 3])) == pytest.approx((1 + 0 + 1 + 0.5) / 4)


@pytest.mark.parametrize("label", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_is_not_a_number(label: list[int]) -> None:
    score = np.linspace(0.1, 0.9, len(label))
    for figure in (auc, eer, average_precision):
        assert math.isnan(figure(np.array(label), score))
    assert math.isnan(tpr_at_fpr(np.array(label), score, 0.05))


def test_the_curve_of_one_class_has_no_rate_of_the_other() -> None:
    alarms, hits, thresholds = roc(np.zeros(2), np.array([0.1, 0.2]))
    assert alarms.tolist() == [0, 0.5, 1]
    assert np.isnan(hits).all()
    assert thresholds.tolist() == [math.inf, 0.2, 0.1]
    alarms, hits, _ = roc(np.ones(2), np.array([0.1, 0.2]))
    assert np.isnan(alarms).all()
    assert hits.tolist() == [0, 0.5, 1]


def test_losses_of_one_class_are_numbers_and_of_nothing_are_not() -> None:
    assert log_loss(np.ones(2), np.array([0.5, 0.5])) == pytest.approx(PRIOR_LOG_LOSS)
    assert brier(np.ones(2), np.array([0.5, 1.0])) == 0.125
    assert math.isnan(log_loss(np.array([]), np.array([])))
    assert math.isnan(brier(np.array([]), np.array([])))


def alarms(label: np.ndarray, score: np.ndarray, threshold: float) -> float:
    return float((score[label == 0] >= threshold).mean())


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1, 0.29, 0.5])
@pytest.mark.parametrize("ties", [False, True])
def test_the_threshold_keeps_the_rate_and_is_the_smallest(rate: float, ties: bool) -> None:
    label, score = drawn(300, 5, ties)
    threshold = threshold_at_false_alarms(label, score, rate)
    assert alarms(label, score, threshold) <= rate
    below = score[(label == 0) & (score < threshold)]
    assert alarms(label, score, below.max()) > rate


def test_the_threshold_by_hand() -> None:
    """Of 100 real clips exactly 29 may be called fake."""
    label, score = np.zeros(100, int), np.arange(100.0)
    threshold = threshold_at_false_alarms(label, score, 0.29)
    assert 70 < threshold <= 71
    assert (score >= threshold).sum() == 29


def test_a_threshold_needs_real_clips() -> None:
    with pytest.raises(ValueError, match="real"):
        threshold_at_false_alarms(np.ones(3), np.zeros(3), 0.1)


@pytest.mark.parametrize(
    ("label", "score"),
    [
        ([0, 1], [0.5]),
        ([0, 2], [0.5, 0.5]),
        ([0, 1], [0.5, math.nan]),
        ([0, 1], [0.5, math.inf]),
        ([[0, 1]], [[0.5, 0.5]]),
    ],
)
def test_bad_tables_are_refused(label: list, score: list) -> None:
    for figure in (auc, log_loss, brier, eer, average_precision, roc):
        with pytest.raises(ValueError, match=r"scores|lists"):
            figure(np.array(label), np.array(score))
