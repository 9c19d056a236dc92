"""Answers that were not given, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.metrics.abstention import (
    area_under_risk_coverage,
    at_prior,
    coverage,
    risk_coverage,
)
from evaluation.metrics.classification import log_loss

NAN = math.nan


def test_coverage_counts_answers() -> None:
    assert coverage(np.array([0.1, NAN, 0.9, 0.5])) == 0.75
    assert coverage(np.array([NAN])) == 0
    assert math.isnan(coverage(np.array([])))


def test_what_got_no_answer_is_scored_at_the_prior() -> None:
    label, probability = np.array([1, 0, 1]), np.array([0.8, NAN, NAN])
    assert at_prior(probability).tolist() == [0.8, 0.5, 0.5]
    assert at_prior(probability, 0.3).tolist() == [0.8, 0.3, 0.3]
    expected = -(math.log(0.8) + 2 * math.log(0.5)) / 3
    assert log_loss(label, at_prior(probability)) == pytest.approx(expected)


def test_the_curve_by_hand() -> None:
    """By how sure: 0.95 right, 0.1 wrong, 0.6 right; one clip without an answer."""
    label = np.array([1, 1, 0, 1])
    probability = np.array([0.6, 0.95, NAN, 0.1])
    covered, risk = risk_coverage(label, probability)
    assert covered.tolist() == [0.25, 0.5, 0.75]
    assert risk == pytest.approx([0, 1 / 2, 1 / 3])
    assert area_under_risk_coverage(label, probability) == pytest.approx((1 / 2 + 1 / 3) / 3)


def test_equally_sure_clips_are_taken_in_no_order() -> None:
    """0.2 and 0.8 are equally sure, one of them is right: a half is expected of each."""
    label, probability = np.array([1, 1, 0]), np.array([0.2, 0.8, 0.05])
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        _, risk = risk_coverage(label[order], probability[order])
        assert risk == pytest.approx([0, 0.5 / 2, 1 / 3])


def test_half_is_half_wrong() -> None:
    for label in ([0], [1]):
        assert area_under_risk_coverage(np.array(label), np.array([0.5])) == 0.5


def test_doubt_where_it_is_wrong_makes_the_area_small() -> None:
    label = np.array([0, 0, 1, 1])
    knows = np.array([0.1, 0.6, 0.9, 0.95])
    not_ = np.array([0.4, 0.99, 0.6, 0.7])
    assert area_under_risk_coverage(label, knows) < area_under_risk_coverage(label, not_)


def test_nothing_answered_is_not_a_number() -> None:
    for size in (0, 2):
        covered, risk = risk_coverage(np.zeros(size), np.full(size, NAN))
        assert len(covered) == len(risk) == 0
        assert math.isnan(area_under_risk_coverage(np.zeros(size), np.full(size, NAN)))


def test_bad_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="lists"):
        risk_coverage(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="0 or 1"):
        risk_coverage(np.array([0, 2]), np.zeros(2))
