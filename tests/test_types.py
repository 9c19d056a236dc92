"""The dataclasses between the stages: what they promise and what they refuse."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest

from avfake.types import (
    SAMPLE_RATE,
    AvfakeError,
    BranchScore,
    MediaInfo,
    Prediction,
    Segment,
    Sound,
    Track,
    Window,
    percent,
    probability,
)


@pytest.mark.parametrize("logit", [-3.0, -0.1, 0.0, 0.7, 5.0])
def test_probability_is_the_logistic_function_and_symmetric(logit: float) -> None:
    assert probability(logit) == pytest.approx(1 / (1 + math.exp(-logit)), abs=5e-5)
    assert probability(logit) + probability(-logit) == pytest.approx(1.0, abs=1e-4)


def test_probability_does_not_overflow() -> None:
    assert probability(1e4) == 1.0
    assert probability(-1e4) == 0.0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "under 1%"),
        (0.01, "1%"),
        (0.0164, "2%"),
        (0.145, "15%"),
        (0.62, "62%"),
        (0.99, "99%"),
        (1.0, "over 99%"),
    ],
)
def test_percentages_are_never_nothing_and_never_all(value: float, text: str) -> None:
    assert percent(value) == text


def sound(start: float = 0.0, seconds: float = 1.0) -> Sound:
    """A ramp: sample i has the value (i + 1) / n."""
    count = round(seconds * SAMPLE_RATE)
    return Sound(np.arange(1, count + 1, dtype=np.float32) / count, start)


def test_sound_between_reads_the_clips_clock() -> None:
    part = sound(start=0.5).between(0.75, 1.0)
    assert len(part) == 4000
    assert part[0] == pytest.approx(4001 / 16_000)
    assert part[-1] == pytest.approx(8000 / 16_000)


def test_sound_between_is_silent_where_there_is_none() -> None:
    given = sound(start=0.25)
    part = given.between(0.0, 2.0)
    assert len(part) == 32_000
    assert not part[:4000].any()
    assert np.array_equal(part[4000:20_000], given.samples)
    assert not part[20_000:].any()
    assert not given.between(5.0, 6.0).any()
    assert not given.between(-3.0, -2.0).any()


def test_sound_may_start_before_the_picture() -> None:
    given = sound(start=-0.5)
    assert given.end == pytest.approx(0.5)
    assert np.array_equal(given.between(0.0, 0.5), given.samples[8000:])


@pytest.mark.parametrize("bad", [np.zeros(5), np.zeros((2, 5), np.float32), np.zeros(5, np.int16)])
def test_sound_refuses_other_shapes_and_types(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="float32"):
        Sound(bad)


def test_a_track_needs_a_box_for_every_time() -> None:
    with pytest.raises(ValueError, match="one time, one box"):
        Track(0, np.zeros(3), np.zeros((2, 4)), np.zeros(3, bool))


@pytest.mark.parametrize(
    ("status", "logit"),
    [
        ("ok", None),
        ("absent", 0.3),
        ("failed", 0.3),
        ("ok", math.nan),
        ("ok", math.inf),
        ("?", None),
    ],
)
def test_a_branch_has_a_finite_logit_exactly_when_it_is_ok(
    status: str, logit: float | None
) -> None:
    with pytest.raises(ValueError, match="branch"):
        BranchScore(status, logit=logit)


@pytest.mark.parametrize(
    ("status", "logit"), [("ok", None), ("abstain", 0.0), ("error", 0.0), ("fine", 1.0)]
)
def test_a_prediction_has_a_probability_exactly_when_it_is_ok(
    status: str, logit: float | None
) -> None:
    with pytest.raises(ValueError, match="prediction"):
        Prediction("clip.mp4", status, logit=logit)


def full_prediction() -> Prediction:
    track = Track(
        3,
        np.array([0.0, 0.04]),
        np.array([[10.4, 20.6, 110.2, 140.0], [11.0, 21.0, 111.0, 141.0]], np.float32),
        np.array([True, False]),
    )
    return Prediction(
        "clip.mp4",
        "ok",
        logit=2.0,
        verdict="likely fake",
        branches={
            "visual": BranchScore("ok", logit=3.0, windows=(Window(0.0, 1.0, 3.0, 3),)),
            "audio": BranchScore.absent("no_speech"),
            "lipsync": BranchScore(
                "ok", logit=-1.0, details={"offset_ms": 40.0004, "confidence": 0.31}
            ),
        },
        tracks=(track,),
        track_logits={3: 3.0},
        segments=(Segment(0.0, 1.0, "visual", 3.0),),
        media=MediaInfo(0.08, 640, 480, 25.0, "h264", "aac", 44_100),
        warnings=("partial_decode",),
        bundle={"name": "default", "version": "1", "sha256": "0"},
        seconds={"total": 1.23456},
    )


def test_to_dict_keeps_the_contract_and_is_json() -> None:
    answer = json.loads(json.dumps(full_prediction().to_dict(), allow_nan=False))
    assert answer["status"] == "ok"
    assert answer["reason"] is None
    assert answer["fake_probability"] == pytest.approx(0.8808)
    assert answer["branches"]["visual"]["windows"] == [
        {"start": 0.0, "end": 1.0, "track": 3, "fake_probability": 0.9526}
    ]
    assert answer["branches"]["audio"] == {
        "status": "absent",
        "reason": "no_speech",
        "fake_probability": None,
        "windows": [],
    }
    assert answer["branches"]["lipsync"]["offset_ms"] == 40.0
    assert answer["branches"]["lipsync"]["confidence"] == 0.31
    assert answer["tracks"] == [
        {
            "track": 3,
            "start": 0.0,
            "end": 0.04,
            "fake_probability": 0.9526,
            "boxes": [[0.0, 10, 21, 110, 140], [0.04, 11, 21, 111, 141]],
        }
    ]
    assert answer["segments"] == [
        {"start": 0.0, "end": 1.0, "branch": "visual", "fake_probability": 0.9526}
    ]
    assert answer["media"]["width"] == 640
    assert answer["warnings"] == ["partial_decode"]
    assert answer["seconds"] == {"total": 1.235}


def test_a_track_without_a_score_has_none() -> None:
    given = full_prediction()
    silent = Prediction("clip.mp4", "ok", logit=0.0, verdict="uncertain", tracks=given.tracks)
    assert silent.to_dict()["tracks"][0]["fake_probability"] is None


def test_an_error_has_no_probability_and_says_why() -> None:
    answer = Prediction("clip.mp4", "error", "not_found", "There is no file clip.mp4.")
    assert answer.fake_probability is None
    assert answer.to_dict()["fake_probability"] is None
    assert answer.to_dict()["verdict"] is None
    assert str(answer) == "clip.mp4: error: There is no file clip.mp4."


def test_str_tells_verdict_branches_and_warnings() -> None:
    text = str(full_prediction())
    assert text.splitlines()[0] == "clip.mp4: likely fake (probability of a fake 88%)"
    assert "no speech heard" in text
    assert "sound 40 ms late" in text
    assert "warning: partial_decode" in text


def test_an_error_carries_code_and_sentence() -> None:
    error = AvfakeError("not_found", "There is no file x.")
    assert error.reason == "not_found"
    assert str(error) == "There is no file x."


def test_an_error_comes_back_whole_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(AvfakeError("not_found", "There is no file a.mp4.")))
    assert (error.reason, str(error)) == ("not_found", "There is no file a.mp4.")
