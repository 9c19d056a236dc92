"""Reliability against scikit-learn's curve and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.metrics.calibration import ece, reliability
from tests.evaluation.metrics.tables import drawn

calibration = pytest.importorskip("sklearn.calibration")


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("bins", [5, 10])
def test_the_diagram_is_scikit_learns(bins: int, ties: bool) -> None:
    label, probability = drawn(203, 1, ties)
    fakes, means = calibration.calibration_curve(
        label, probability, n_bins=bins, strategy="quantile"
    )
    found = reliability(label, probability, bins)
    np.testing.assert_allclose([part.fakes for part in found], fakes)
    np.testing.assert_allclose([part.probability for part in found], means)
    assert sum(part.count for part in found) == 203
    if not ties:
        assert {part.count for part in found} <= {203 // bins, 203 // bins + 1}


def test_by_hand() -> None:
    """Two bins of two: 0.1 and 0.3 hold one fake, 0.6 and 0.8 two."""
    label, probability = np.array([1, 0, 1, 1]), np.array([0.8, 0.1, 0.3, 0.6])
    low, high = reliability(label, probability, bins=2)
    assert (low.probability, low.fakes, low.count, low.low, low.high) == (0.2, 0.5, 2, 0.1, 0.3)
    assert high.probability == pytest.approx(0.7)
    assert high.fakes == 1
    assert ece(label, probability, bins=2) == pytest.approx((0.3 + 0.3) / 2)


def test_equal_probabilities_share_a_bin_whatever_the_order() -> None:
    label, probability = drawn(100, 2, ties=True)
    order = np.random.default_rng(0).permutation(100)
    assert ece(label, probability) == pytest.approx(ece(label[order], probability[order]))
    (only,) = reliability(np.array([0, 1, 1, 0]), np.full(4, 0.5))
    assert only.count == 4
    assert ece(np.array([0, 1, 1, 0]), np.full(4, 0.5)) == 0


def test_a_detector_that_is_too_sure_is_found_out() -> None:
    rng = np.random.default_rng(3)
    probability = rng.random(20_000)
    label = (rng.random(20_000) < probability).astype(int)
    assert ece(label, probability) < 0.02
    sure = 1 / (1 + np.exp(-3 * np.log(probability / (1 - probability))))
    assert ece(label, sure) > 0.1


def test_one_class_has_an_error_and_nothing_has_none() -> None:
    assert ece(np.ones(4), np.full(4, 0.75)) == pytest.approx(0.25)
    assert reliability(np.array([]), np.array([])) == []
    assert math.isnan(ece(np.array([]), np.array([])))
