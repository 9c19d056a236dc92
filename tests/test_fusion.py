"""Fusion: missing branches stay missing, evidence counts one way, stretches join as they should."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest

from avfake.bundle import Bundle
from avfake.fusion import Fusion
from avfake.types import BRANCHES, BranchScore, Window, probability


class FakeSession:
    """Answers the sum of the present logits, and remembers what it was asked."""

    def __init__(self) -> None:
        self.feeds: list[Mapping[str, np.ndarray]] = []

    def run(self, outputs: list[str], feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        assert outputs == ["logit"]
        self.feeds.append(feed)
        return [(feed["logits"] * feed["present"]).sum(1)]


class FakeBundle:
    """A bundle with thresholds of 0.2 and 0.8 and a fusion that adds."""

    def __init__(self) -> None:
        self.graph = FakeSession()

    def session(self, name: str, threads: int) -> FakeSession:
        assert name == "fusion"
        return self.graph

    def threshold(self, verdict: str) -> float:
        return {"likely_fake": 0.8, "likely_real": 0.2}[verdict]


@pytest.fixture
def fake() -> FakeBundle:
    return FakeBundle()


@pytest.fixture
def fusion(fake: FakeBundle) -> Fusion:
    return Fusion(fake)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def real_fusion(bundle: Bundle) -> Fusion:
    return Fusion(bundle)


def scores(**logits: float | None) -> dict[str, BranchScore]:
    return {
        branch: BranchScore.absent("no_face")
        if logits.get(branch) is None
        else BranchScore("ok", logit=logits[branch])
        for branch in BRANCHES
    }


def logit(value: float) -> float:
    return float(np.log(value / (1 - value)))


def test_branches_arrive_in_order_with_their_mask(fusion: Fusion, fake: FakeBundle) -> None:
    assert fusion.fuse(scores(visual=1.5, lipsync=-0.5)) == pytest.approx(1.0)
    (feed,) = fake.graph.feeds
    assert feed["logits"].tolist() == [[1.5, 0.0, -0.5]]
    assert feed["present"].tolist() == [[1.0, 0.0, 1.0]]
    assert feed["logits"].dtype == feed["present"].dtype == np.float32


def test_a_logit_of_zero_is_an_answer_and_not_a_gap(fusion: Fusion, fake: FakeBundle) -> None:
    assert fusion.fuse(scores(audio=0.0)) == 0.0
    assert fake.graph.feeds[0]["present"].tolist() == [[0.0, 1.0, 0.0]]


def test_a_failed_branch_is_masked_like_an_absent_one(fusion: Fusion, fake: FakeBundle) -> None:
    given = scores(visual=2.0) | {"audio": BranchScore.failed("inference_error")}
    assert fusion.fuse(given) == pytest.approx(2.0)
    assert fake.graph.feeds[0]["present"].tolist() == [[1.0, 0.0, 0.0]]


def test_nothing_is_invented_where_no_branch_answers(fusion: Fusion, fake: FakeBundle) -> None:
    assert fusion.fuse(scores()) is None
    assert fake.graph.feeds == []


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (0.99, "likely fake"),
        (0.81, "likely fake"),
        (0.79, "uncertain"),
        (0.5, "uncertain"),
        (0.21, "uncertain"),
        (0.19, "likely real"),
        (0.0001, "likely real"),
    ],
)
def test_verdicts_by_threshold(fusion: Fusion, value: float, verdict: str) -> None:
    assert fusion.verdict(logit(value)) == verdict


def windows(track: int | None, *stretches: tuple[float, float, float]) -> BranchScore:
    made = tuple(Window(start, end, logit(value), track) for start, end, value in stretches)
    return BranchScore("ok", logit=0.0, windows=made)


def test_windows_that_touch_make_one_segment(fusion: Fusion) -> None:
    score = windows(0, (0, 1, 0.1), (1, 2, 0.9), (2, 3, 0.95), (3, 4, 0.3), (4, 5, 0.9))
    found = fusion.segments({"visual": score})
    assert [(s.start, s.end, s.branch) for s in found] == [(1, 3, "visual"), (4, 5, "visual")]
    assert found[0].logit == pytest.approx((logit(0.9) + logit(0.95)) / 2)


def test_windows_that_overlap_make_one_segment(fusion: Fusion) -> None:
    score = windows(None, (0, 4, 0.9), (2, 6, 0.9), (4, 8, 0.1), (7, 11, 0.9))
    found = fusion.segments({"audio": score})
    assert [(s.start, s.end) for s in found] == [(0, 6), (7, 11)]


def test_the_order_of_windows_does_not_matter(fusion: Fusion) -> None:
    stretches = [(0.0, 1.0, 0.9), (1.0, 2.0, 0.9), (3.0, 4.0, 0.85)]
    expected = fusion.segments({"visual": windows(0, *stretches)})
    for order in itertools.permutations(stretches):
        assert fusion.segments({"visual": windows(0, *order)}) == expected


def test_tracks_and_branches_keep_their_own_segments(fusion: Fusion) -> None:
    both = BranchScore(
        "ok",
        logit=0.0,
        windows=(Window(1, 2, logit(0.9), 0), Window(2, 3, logit(0.9), 1)),
    )
    found = fusion.segments({"visual": both, "audio": windows(None, (0, 4, 0.9))})
    assert [(s.start, s.end, s.branch) for s in found] == [
        (0, 4, "audio"),
        (1, 2, "visual"),
        (2, 3, "visual"),
    ]


def test_a_long_window_within_a_run_does_not_shorten_it(fusion: Fusion) -> None:
    """The run ends where its last sound ends, whichever window began last."""
    found = fusion.segments({"audio": windows(None, (0, 6, 0.9), (1, 3, 0.9), (5, 7, 0.9))})
    assert [(s.start, s.end) for s in found] == [(0, 7)]


def test_clips_with_nothing_suspicious_have_no_segments(fusion: Fusion) -> None:
    assert fusion.segments({"visual": windows(0, (0, 1, 0.5), (1, 2, 0.69))}) == ()
    assert fusion.segments(scores()) == ()


# The head that ships


PRESENT = [mask for mask in itertools.product((False, True), repeat=3) if any(mask)]


@pytest.mark.parametrize("mask", PRESENT)
def test_more_evidence_of_a_fake_never_lowers_the_answer(
    real_fusion: Fusion, mask: tuple[bool, ...]
) -> None:
    for moved, branch in enumerate(BRANCHES):
        if not mask[moved]:
            continue
        answers = []
        for value in np.linspace(-6, 6, 13):
            given = {b: 0.5 for b, there in zip(BRANCHES, mask, strict=True) if there}
            answers.append(real_fusion.fuse(scores(**(given | {branch: float(value)}))))
        steps = np.diff(np.array(answers, float))
        assert (steps >= -1e-5).all()
        assert answers[-1] > answers[0] + 0.2


def test_an_absent_branch_has_no_say(bundle: Bundle) -> None:
    """Whatever stands where the mask is 0."""
    session = bundle.session("fusion", 1)
    present = np.array([[1, 0, 1]], np.float32)
    answers = [
        session.run(
            ["logit"],
            {"logits": np.array([[1.0, value, -1.0]], np.float32), "present": present},
        )[0][0]
        for value in (-7.0, 0.0, 7.0)
    ]
    assert answers == pytest.approx([answers[0]] * 3, abs=1e-6)


def test_all_branches_agreeing_decides(real_fusion: Fusion) -> None:
    sure_fake = real_fusion.fuse(scores(visual=5.0, audio=5.0, lipsync=5.0))
    sure_real = real_fusion.fuse(scores(visual=-5.0, audio=-5.0, lipsync=-5.0))
    assert sure_fake is not None
    assert sure_real is not None
    assert probability(sure_fake) > 0.8
    assert probability(sure_real) < 0.2
