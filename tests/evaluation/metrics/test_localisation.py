"""AP at an IoU and AR at N, by hand and against what LAV-DF's own program answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.metrics.localisation import (
    AP_IOUS,
    AR_PROPOSALS,
    average_precision_at_iou,
    average_recall,
    iou,
)

TRUTH = [[(1.0, 3.0), (5.0, 6.0)], [], [(0.0, 4.0)], [(2.0, 2.5)]]
PROPOSALS = [
    [(1.0, 2.9, 0.9), (1.1, 3.0, 0.8), (5.0, 6.8, 0.4)],
    [(0.0, 2.0, 0.7)],
    [(0.0, 3.2, 0.6), (2.0, 9.0, 0.5), (0.1, 4.0, 0.3)],
    [],
]
"""IoU 0.95 and 0.95 with the first segment, 0.556; a real clip's; 0.8, 0.22, 0.975; none."""


def test_overlaps_by_hand() -> None:
    found = iou(np.array([[0.0, 2.0], [4.0, 6.0], [1.0, 1.0]]), np.array([[1.0, 4.0], [1.0, 1.0]]))
    np.testing.assert_allclose(found, [[1 / 4, 0], [0, 0], [0, 0]])


def test_average_precision_by_hand() -> None:
    """By confidence 0.9 hits, 0.8 comes too late, 0.7 is in a real clip, 0.6 hits, 0.5 and 0.4 ...

    At 0.5: hits at ranks 1, 4 and 6 of 4 segments, precision 1, 2/4, 3/6, so 1/2 from there on.
    """
    assert average_precision_at_iou(TRUTH, PROPOSALS, 0.5) == pytest.approx((1 + 0.5 + 0.5) / 4)
    assert average_precision_at_iou(TRUTH, PROPOSALS, 0.75) == pytest.approx((1 + 0.5) / 4)
    # 0.6 has 0.8 only: the segment is found by 0.3, rank 7.
    assert average_precision_at_iou(TRUTH, PROPOSALS, 0.9) == pytest.approx((1 + 2 / 7) / 4)
    # None of the first two is above 0.951, so 0.3 is the only hit.
    assert average_precision_at_iou(TRUTH, PROPOSALS, 0.951) == pytest.approx(1 / 7 / 4)


def test_average_recall_by_hand() -> None:
    """The best of each segment's IoUs: 0.95, 0.556, 0.975 and none, against 0.5 to 0.95."""
    steps = (9, 2, 10, 0)  # thresholds strictly below; 0.95 itself is not
    assert average_recall(TRUTH, PROPOSALS, 5) == pytest.approx(sum(steps) / 40)
    steps = (9, 0, 6, 0)  # of the surest one a clip
    assert average_recall(TRUTH, PROPOSALS, 1) == pytest.approx(sum(steps) / 40)


def test_a_proposal_finds_one_segment_but_is_recalled_for_several() -> None:
    truth, proposals = [[(0.0, 2.0), (0.5, 2.0)]], [[(0.0, 2.0, 0.9)]]
    assert average_precision_at_iou(truth, proposals, 0.5) == 0.5
    assert average_recall(truth, proposals, 1, ious=[0.5]) == 1


def test_the_first_segment_chooses_first() -> None:
    """The surer proposal hits both segments, the other only the first, which takes the surer."""
    truth = [[(0.0, 2.0), (1.0, 3.0)]]
    proposals = [[(0.6, 2.4, 0.9), (0.0, 1.9, 0.8)]]
    assert iou(np.array([[0.6, 2.4]]), np.array(truth[0])).min() > 0.5
    assert average_precision_at_iou(truth, proposals, 0.5) == 0.5
    assert average_precision_at_iou([truth[0][::-1]], proposals, 0.5) == 1


@pytest.mark.parametrize("threshold", AP_IOUS)
def test_all_found_is_one_and_nothing_proposed_is_nought(threshold: float) -> None:
    proposals = [[(*segment, 0.9) for segment in clip] for clip in TRUTH]
    assert average_precision_at_iou(TRUTH, proposals, threshold) == 1
    assert average_precision_at_iou(TRUTH, [[]] * 4, threshold) == 0
    assert average_recall(TRUTH, [[]] * 4, 5) == 0


@pytest.mark.parametrize("count", AR_PROPOSALS)
def test_all_found_is_recalled(count: int) -> None:
    proposals = [[(*segment, 0.9) for segment in clip] for clip in TRUTH]
    assert average_recall(TRUTH, proposals, count) == 1


def test_a_hit_is_above_the_threshold() -> None:
    assert average_precision_at_iou([[(0.0, 2.0)]], [[(0.0, 1.0, 0.9)]], 0.5) == 0


def test_without_segments_it_is_not_a_number() -> None:
    for truth, proposals in (([], []), ([[]], [[(0.0, 1.0, 0.9)]])):
        assert math.isnan(average_precision_at_iou(truth, proposals, 0.5))
        assert math.isnan(average_recall(truth, proposals, 5))


def test_lists_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        average_precision_at_iou(TRUTH, PROPOSALS[:3], 0.5)


def clips() -> tuple[list, list]:
    """Eight clips with up to three segments and some proposals beside them."""
    rng = np.random.default_rng(11)
    truth, proposals = [], []
    for clip in range(8):
        starts = np.arange(clip % 4) * 3 + rng.uniform(0, 1, clip % 4)
        lengths = rng.uniform(0.5, 2, 3)[: clip % 4]
        segments = list(zip(starts, starts + lengths, strict=True))
        near = [(s + rng.normal(0, 0.1), e + rng.normal(0, 0.1), rng.random()) for s, e in segments]
        far = [(s, s + 1, rng.random() / 2) for s in rng.uniform(0, 9, 6)]
        truth.append(segments)
        proposals.append(near + far)
    return truth, proposals


@pytest.mark.parametrize(
    ("threshold", "published", "before"),
    [(0.5, 0.289697, 1 / 12), (0.75, 0.206114, 0), (0.9, 0.096952, 0), (0.95, 0.009235, 0)],
)
def test_precision_is_that_of_the_published_program(
    threshold: float, published: float, before: float
) -> None:
    """The steps of LAV-DF's metrics.py, retraced in torch, gave `published` for these clips; what
    it leaves out `before` the first proposal is 1 / 12 where that proposal is right.
    """
    found = average_precision_at_iou(*clips(), threshold)
    assert found == pytest.approx(published + before, abs=1e-6)


@pytest.mark.parametrize(
    ("count", "published"),
    [(50, 0.866667), (10, 0.866667), (5, 0.591667), (2, 0.225), (1, 0.066667)],
)
def test_recall_is_that_of_the_published_program(count: int, published: float) -> None:
    assert average_recall(*clips(), count) == pytest.approx(published, abs=1e-6)
