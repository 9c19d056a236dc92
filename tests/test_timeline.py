"""The timeline: where bars stand, which faces have a lane, and what is pointed out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from avfake.timeline import (
    FACE_LANES,
    MOST_BARS,
    bars,
    clock,
    lanes,
    length_of,
    ticks,
)
from avfake.types import BranchScore, MediaInfo, Prediction, Track, Window, probability


def windows(*logits: float, length: float = 1.0, hop: float = 1.0) -> tuple[Window, ...]:
    return tuple(Window(i * hop, i * hop + length, logit) for i, logit in enumerate(logits))


def judged(faces: dict[int, list[float]], duration: float = 10.0) -> Prediction:
    """A clip whose faces have these logits, a window a second."""
    score = BranchScore(
        "ok",
        logit=0.0,
        windows=tuple(
            Window(float(i), i + 1.0, logit, face)
            for face, logits in faces.items()
            for i, logit in enumerate(logits)
        ),
    )
    return Prediction(
        "clip.mp4",
        "ok",
        logit=0.0,
        verdict="uncertain",
        branches={
            "visual": score,
            "audio": BranchScore.absent("no_speech"),
            "lipsync": BranchScore.absent("no_sound"),
        },
        tracks=tuple(
            Track(face, np.zeros(1), np.zeros((1, 4)), np.ones(1, bool)) for face in faces
        ),
        track_logits={face: float(np.mean(logits)) for face, logits in faces.items()},
        media=MediaInfo(duration, 64, 64, 25.0, "h264", None, None),
    )


def test_bars_stand_where_their_windows_are() -> None:
    (one, other) = bars((Window(2.0, 3.0, 9.0), Window(5.0, 7.5, -9.0)), 10.0)
    assert (one.left, one.right, one.value) == (0.2, 0.3, probability(9.0))
    assert (other.left, other.right, other.value) == (0.5, 0.75, probability(-9.0))


def test_overlapping_windows_show_where_they_are_nearest() -> None:
    given = (Window(0.0, 4.0, -9.0), Window(2.0, 6.0, 9.0), Window(4.0, 8.0, -9.0))
    placed = bars(given, 8.0)
    assert [(bar.left, bar.right) for bar in placed] == [(0, 3 / 8), (3 / 8, 5 / 8), (5 / 8, 1)]


def test_windows_that_reach_beyond_the_clip_are_cut() -> None:
    (bar,) = bars((Window(-1.0, 12.0, 0.0),), 10.0)
    assert (bar.left, bar.right) == (0.0, 1.0)


def test_one_fake_second_shows_in_an_hour() -> None:
    logits = [-9.0] * 3600
    logits[1800] = 9.0
    placed = bars(windows(*logits), 3600.0)
    assert len(placed) == MOST_BARS
    (high,) = (bar for bar in placed if bar.value > 0.5)
    assert high.left <= 0.5 < high.right


def test_faces_keep_their_order_and_branches_without_an_answer_say_why() -> None:
    prediction = judged({0: [-1.0] * 10, 1: [2.0] * 10})
    found = lanes(prediction, length_of(prediction))
    assert [(lane.branch, lane.tracks) for lane in found] == [
        ("visual", (0,)),
        ("visual", (1,)),
        ("audio", ()),
        ("lipsync", ()),
    ]
    assert [lane.value for lane in found] == [probability(-1.0), probability(2.0), None, None]
    assert found[2].note == "no speech heard"
    assert not found[2].bars


def test_of_many_faces_the_worst_have_lanes_and_the_rest_share_one() -> None:
    faces = {face: [face / 10] * 10 for face in range(FACE_LANES + 5)}
    visual = [lane for lane in lanes(judged(faces), 10.0) if lane.branch == "visual"]
    assert len(visual) == FACE_LANES + 1
    assert [lane.tracks[0] for lane in visual[:-1]] == list(range(5, FACE_LANES + 5))
    assert set(visual[-1].tracks) == set(range(5))
    assert visual[-1].value == probability(0.4)
    assert {bar.value for bar in visual[-1].bars} == {probability(0.4)}


def test_one_face_more_than_lanes_still_has_its_own() -> None:
    faces = {face: [0.0] * 3 for face in range(FACE_LANES + 1)}
    visual = [lane for lane in lanes(judged(faces), 10.0) if lane.branch == "visual"]
    assert all(len(lane.tracks) == 1 for lane in visual)


def test_suspicious_runs_are_joined_and_keep_their_worst() -> None:
    lane, *_ = lanes(judged({0: [-1, 1, 3, -1, 0.8, -1, -1, -1, -1, 2]}), 10.0)
    found = [(round(r.left, 3), round(r.right, 3), r.value) for r in lane.suspicious]
    assert found == [(0.1, 0.3, probability(3)), (0.9, 1.0, probability(2))]


def test_the_axis_reaches_as_far_as_anything_was_judged() -> None:
    assert length_of(judged({0: [0.0] * 12}, duration=10.0)) == 12.0
    assert length_of(judged({0: [0.0] * 5}, duration=10.0)) == 10.0
    assert length_of(Prediction("x", "error", "not_media", "No.")) == 0.0


@pytest.mark.parametrize("length", [0.04, 0.9, 1.0, 6.0, 59.0, 600.0, 3599.0, 7200.0, 90_000.0])
def test_ticks_are_few_and_on_the_axis(length: float) -> None:
    found = ticks(length)
    assert 1 <= len(found) <= 9
    assert found[0] == (0.0, "0:00")
    assert all(0 <= place <= 1 for place, _ in found)
    assert len({label for _, label in found}) == len(found)
    assert length < 2 or len(found) >= 3
    assert math.isfinite(found[-1][0])


@pytest.mark.parametrize(
    ("seconds", "places", "text"),
    [
        (0, 0, "0:00"),
        (7.64, 1, "0:07.6"),
        (59.96, 1, "1:00.0"),
        (59.4, 0, "0:59"),
        (750, 0, "12:30"),
        (3723, 0, "1:02:03"),
        (-0.02, 1, "0:00.0"),
    ],
)
def test_the_clock_reads_as_players_do(seconds: float, places: int, text: str) -> None:
    assert clock(seconds, places) == text
