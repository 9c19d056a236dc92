"""Bootstrap intervals, and DeLong's test against leave-one-out with scikit-learn and by hand."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from evaluation.metrics.classification import auc, brier, log_loss
from evaluation.metrics.intervals import delong, draw, grouped_interval, paired_interval
from tests.evaluation.metrics.tables import drawn

sklearn_metrics = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")


def test_a_draw_takes_groups_whole_and_as_many_as_there_are() -> None:
    group = np.array(["b", "a", "b", "c", "b", "a"])
    whole = {"a": [1, 5], "b": [0, 2, 4], "c": [3]}
    together: dict[int, int] = {}
    for rows in draw(group, 200, seed=1):
        left, groups = rows.tolist(), 0
        while left:
            members = whole[group[left[0]]]
            assert left[: len(members)] == members
            left, groups = left[len(members) :], groups + 1
        assert groups == 3
        for row in rows:
            together[row] = together.get(row, 0) + 1
    assert all(150 < times < 250 for times in together.values())  # each is drawn as often
    assert len(together) == 6


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


def test_an_interval_of_a_mean_is_the_normal_one() -> None:
    """Of many clips on their own, by the standard error of the mean."""
    label, score = drawn(2000, 3)
    loss = (score - label) ** 2
    error = stats.sem(loss)
    low, high = grouped_interval(label, score, np.arange(2000), brier, draws=1000)
    assert low == pytest.approx(loss.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(loss.mean() + 1.96 * error, abs=0.2 * error)


@pytest.mark.parametrize(
    ("label", "group"),
    [
        ([0, 0, 0, 0, 0], range(5)),  # one class
        ([0, 1, 0, 1, 1], [0] * 5),  # one person tells nothing of others
        ([], []),
    ],
)
def test_an_interval_of_too_little_is_not_a_number(label: list, group: list) -> None:
    score = np.linspace(0, 1, len(label))
    both = (
        grouped_interval(np.array(label), score, np.array(group), auc, 50),
        paired_interval(np.array(label), score, score**2, np.array(group), auc, 50),
    )
    assert np.isnan(both).all()


def test_a_loss_of_one_class_has_an_interval() -> None:
    low, high = grouped_interval(np.zeros(50), np.linspace(0, 0.5, 50), np.arange(50), log_loss, 50)
    assert 0 < low < high < math.log(2)


def test_paired_draws_cancel_what_is_hard_for_both() -> None:
    label, score = drawn(300, 4)
    better = np.clip(score + 0.05 * (2 * label - 1), 0, 1)
    group = np.arange(300) // 3
    low, high = paired_interval(label, better, score, group, brier, draws=200)
    difference = brier(label, better) - brier(label, score)
    assert low < difference < high < 0  # surely better, by little
    alone = grouped_interval(label, score, group, brier, draws=200)
    assert high - low < (alone[1] - alone[0]) / 3
    assert paired_interval(label, score, score, group, auc, draws=50) == (0, 0)
    swapped = paired_interval(label, score, better, group, brier, draws=200)
    assert swapped == pytest.approx((-high, -low))


def test_many_draws_of_many_clips_take_seconds() -> None:
    label, score = drawn(5000, 5)
    start = time.process_time()
    paired_interval(label, score, np.sqrt(score), np.arange(5000) // 2, auc, draws=1000)
    assert time.process_time() - start < 10  # some 2 on a free core


def left_out(label: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Difference of scikit-learn's AUCs, and its variance by leaving out each clip in turn.

    AUC is a mean over pairs, for which the two-sample jackknife (Arvesen 1969, Annals of
    Mathematical Statistics 40) and DeLong's variance are the same number.
    """
    area = sklearn_metrics.roc_auc_score
    variance = 0.0
    for kind in (0, 1):
        members = np.flatnonzero(label == kind)
        values = []
        for clip in members:
            rows = np.arange(len(label)) != clip
            values.append(area(label[rows], first[rows]) - area(label[rows], second[rows]))
        count = len(members)
        variance += (count - 1) / count * ((np.array(values) - np.mean(values)) ** 2).sum()
    return area(label, first) - area(label, second), variance


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_delong_is_leaving_each_clip_out(seed: int, ties: bool) -> None:
    label, first = drawn(60, seed, ties)
    noise = np.random.default_rng(seed).normal(0, 0.2, 60)
    second = np.round(first + noise, 1) if ties else first + noise
    difference, variance = left_out(label, first, second)
    found = delong(label, first, second)
    assert found.first == pytest.approx(sklearn_metrics.roc_auc_score(label, first))
    assert found.second == pytest.approx(sklearn_metrics.roc_auc_score(label, second))
    assert found.difference == pytest.approx(difference)
    assert found.z == pytest.approx(difference / math.sqrt(variance))
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.z)))
    low, high = stats.norm.interval(0.95, difference, math.sqrt(variance))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)


def test_delong_by_hand() -> None:
    """Two real (1, 3), two fakes (2, 4) against a detector that ranks all right.

    Fakes are above 1/2 and 2/2 of the real, against 1 and 1: differences -1/2, 0, variance 1/8.
    Real are below 2/2 and 1/2 of the fakes, against 1 and 1: the same. Together 1/16 + 1/16.
    """
    found = delong(np.array([0, 1, 0, 1]), np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4]))
    assert (found.first, found.second) == (0.75, 1.0)
    assert found.z == pytest.approx(-0.25 / math.sqrt(1 / 8))
    assert found.p == pytest.approx(0.4795, abs=1e-4)


def test_delong_agrees_with_the_bootstrap_where_clips_are_people() -> None:
    label, first = drawn(1500, 6)
    second = first + np.random.default_rng(6).normal(0, 0.15, 1500)
    found = delong(label, first, second)
    low, high = paired_interval(label, first, second, np.arange(1500), auc, draws=500)
    assert (low, high) == pytest.approx((found.low, found.high), abs=0.004)


def test_delong_of_equal_rankings_finds_nothing() -> None:
    label, score = drawn(50, 8)
    found = delong(label, score, 2 * score - 1)
    assert (found.difference, found.z, found.p) == (0, 0, 1)


@pytest.mark.parametrize("label", [[], [0, 0, 0], [1, 1, 1], [0, 0, 1]])
def test_delong_of_too_little_is_not_a_number(label: list[int]) -> None:
    score = np.arange(len(label), dtype=float)
    found = delong(np.array(label), score, -score)
    assert math.isnan(found.p)
    assert math.isnan(found.low)
    assert (found.first == 1) == (label == [0, 0, 1])
