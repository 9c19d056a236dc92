"""ASVspoof 5's costs against its own formulas, scikit-learn, and numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.metrics.costs import act_dcf, cllr, log_odds, min_dcf
from tests.evaluation.metrics.tables import drawn

sklearn_metrics = pytest.importorskip("sklearn.metrics")
BETA = 1.9
"""c_miss (1 - p_spoof) / (c_fa p_spoof) = 0.95 / 0.5: the normalised cost is BETA miss + fa."""


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_least_cost_lies_on_scikit_learns_curve(seed: int, ties: bool) -> None:
    label, score = drawn(200, seed, ties)
    # As ASVspoof has it: bona fide is the positive class and scores high.
    false_accepts, accepts, _ = sklearn_metrics.roc_curve(1 - label, -score)
    expected = (BETA * (1 - accepts) + false_accepts).min()
    assert min_dcf(label, score) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_costs_of_decisions_are_asvspoofs(seed: int) -> None:
    """In its own polarity: bona fide is accepted at or above -log(BETA)."""
    label, probability = drawn(200, seed)
    logit = log_odds(probability)
    bona_fide, spoof = -logit[label == 0], -logit[label == 1]
    threshold = -math.log(BETA)
    expected = BETA * (bona_fide < threshold).mean() + (spoof >= threshold).mean()
    assert act_dcf(label, logit) == pytest.approx(expected)
    assert act_dcf(label, logit) >= min_dcf(label, logit)


def test_costs_by_hand() -> None:
    """Four real, four fake. Called fake from 3 on: no real, two fakes; from 1 on: one and four."""
    label = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    logit = np.array([-3.0, -2.0, -1.0, 2.0, 1.0, 1.5, 3.0, 4.0])
    assert min_dcf(label, logit) == pytest.approx(min(2 / 4, BETA / 4))
    assert act_dcf(label, logit) == pytest.approx(BETA / 4)  # log(1.9) = 0.64: from 1 on
    assert act_dcf(label, logit - 2) == pytest.approx(2 / 4)  # the fakes at 3 and 4 are left
    # Rejecting bona fide speech is the dearer mistake where spoofs are rarer still.
    assert min_dcf(label, logit, p_spoof=0.01) == pytest.approx(2 / 4)
    assert min_dcf(label, logit, p_spoof=0.5) == pytest.approx((0.5 / 4) / 0.5)


def test_who_does_not_listen_costs_one() -> None:
    label = np.array([0, 1, 0, 1, 1])
    assert min_dcf(label, np.zeros(5)) == 1
    assert act_dcf(label, np.zeros(5)) == 1  # everything is accepted
    assert act_dcf(label, np.full(5, 9.0)) == pytest.approx(BETA)  # everything is rejected
    assert cllr(label, np.zeros(5)) == pytest.approx(1)
    assert min_dcf(label, label) == act_dcf(label, 10.0 * label) == 0


@pytest.mark.parametrize("seed", range(3))
def test_cllr_is_scikit_learns_log_loss_with_both_classes_weighing_the_same(seed: int) -> None:
    label, probability = drawn(200, seed)
    logit = log_odds(probability)
    weight = np.where(label == 1, 0.5 / label.mean(), 0.5 / (1 - label.mean()))
    nats = sklearn_metrics.log_loss(label, 1 / (1 + np.exp(-logit)), sample_weight=weight)
    assert cllr(label, logit) == pytest.approx(nats / math.log(2), rel=1e-6)


def test_cllr_by_hand() -> None:
    """Likelihood ratios of 3 for a fake, 1/3 and 1 for real: log2 of 4/3, 4/3 and 2."""
    label, ratio = np.array([1, 0, 0]), np.array([3.0, 1 / 3, 1.0])
    expected = (math.log2(4 / 3) + (math.log2(4 / 3) + 1) / 2) / 2
    assert cllr(label, np.log(ratio)) == pytest.approx(expected)
    assert cllr(np.array([0, 1]), np.array([2000.0, -2000.0])) == pytest.approx(2000 / math.log(2))


def test_log_odds_are_finite() -> None:
    odds = log_odds(np.array([0.0, 0.2, 0.5, 1.0]))
    assert odds[1] == pytest.approx(math.log(0.25))
    assert odds[2] == 0
    assert [-odds[0], odds[3]] == pytest.approx([math.log(999_999)] * 2)


@pytest.mark.parametrize("label", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_is_not_a_number(label: list[int]) -> None:
    for figure in (min_dcf, act_dcf, cllr):
        assert math.isnan(figure(np.array(label), np.linspace(-1, 1, len(label))))
