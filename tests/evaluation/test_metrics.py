"""Figures of merit against scikit-learn and against numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.metrics import (
    PRIOR_LOG_LOSS,
    auc,
    grouped_interval,
    log_loss,
    threshold_at_false_alarms,
)

sklearn_metrics = pytest.importorskip("sklearn.metrics")


def drawn(count: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, count)
    label[:2] = 0, 1
    score = np.clip(rng.normal(0.4 + 0.2 * label, 0.2), 0, 1)
    return label, np.round(score, 1) if ties else score


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [False, True])
def test_auc_and_log_loss_are_scikit_learns(seed: int, ties: bool) -> None:
    label, score = drawn(200, seed, ties)
    assert auc(label, score) == pytest.approx(sklearn_metrics.roc_auc_score(label, score))
    clipped = np.clip(score, 1e-6, 1 - 1e-6)
    assert log_loss(label, score) == pytest.approx(sklearn_metrics.log_loss(label, clipped))


def test_log_loss_by_hand() -> None:
    expected = -(math.log(0.8) + math.log(1 - 0.3) + math.log(0.1)) / 3
    assert log_loss(np.array([1, 0, 1]), np.array([0.8, 0.3, 0.1])) == pytest.approx(expected)
    assert log_loss(np.array([0, 1, 1]), np.full(3, 0.5)) == pytest.approx(PRIOR_LOG_LOSS)


def test_log_loss_of_a_sure_mistake_is_finite() -> None:
    assert log_loss(np.array([1]), np.array([0.0])) == pytest.approx(-math.log(1e-6))
    assert log_loss(np.array([1]), np.array([1.0])) == pytest.approx(0, abs=2e-6)


def test_auc_by_hand() -> None:
    label = np.array([0, 0, 1, 1])
    assert auc(label, np.array([1, 2, 3, 4])) == 1.0
    assert auc(label, np.array([4, 3, 2, 1])) == 0.0
    assert auc(label, np.array([5, 5, 5, 5])) == 0.5
    assert auc(label, np.array([1, 3, 2, 3])) == pytest.approx((1 + 0 + 1 + 0.5) / 4)


@pytest.mark.parametrize("only", [0, 1])
def test_auc_of_one_class_is_not_a_number(only: int) -> None:
    assert math.isnan(auc(np.full(3, only), np.array([0.1, 0.2, 0.3])))


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


def test_an_interval_over_people_holds_the_figure_and_widens_with_fewer_people() -> None:
    label, score = drawn(400, 1)
    many = grouped_interval(label, score, np.arange(400), auc, draws=200)
    few = grouped_interval(label, score, np.arange(400) // 40, auc, draws=200)
    point = auc(label, score)
    assert many[0] < point < many[1]
    assert 0.02 < many[1] - many[0] < 0.2
    copies = np.tile(np.arange(40), 10)  # the same 40 clips ten times over are 40, not 400
    one = slice(0, 40)
    repeated = grouped_interval(np.tile(label[one], 10), np.tile(score[one], 10), copies, auc, 200)
    single = grouped_interval(label[one], score[one], np.arange(40), auc, 200)
    assert repeated == pytest.approx(single)
    assert few[1] > few[0]


def test_an_interval_is_the_same_every_time() -> None:
    label, score = drawn(60, 2)
    first, second = (grouped_interval(label, score, np.arange(60), auc, 50) for _ in range(2))
    assert first == second


def test_an_interval_of_one_class_is_not_a_number() -> None:
    low, high = grouped_interval(np.zeros(5), np.zeros(5), np.arange(5), auc, 50)
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize(
    ("label", "score"),
    [
        ([], []),
        ([0, 1], [0.5]),
        ([0, 2], [0.5, 0.5]),
        ([0, 1], [0.5, math.nan]),
        ([0, 1], [0.5, math.inf]),
        ([[0, 1]], [[0.5, 0.5]]),
    ],
)
def test_bad_tables_are_refused(label: list, score: list) -> None:
    for figure in (auc, log_loss):
        with pytest.raises(ValueError, match=r"scores|lists"):
            figure(np.array(label), np.array(score))
