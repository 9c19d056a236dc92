"""Branches: which windows are judged, how their answers become one, and who decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from avfake.branches import AudioBranch, FaceScore, LipSyncBranch, SyncScore, VisualBranch
from avfake.bundle import Bundle
from avfake.speech import SpeechActivity
from avfake.types import SAMPLE_RATE, Sound, Track, Window

Answer = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


class FakeSession:
    """A graph that answers what a test tells it to."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.batches: list[int] = []

    def run(self, outputs: list[str], feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        self.batches.append(len(next(iter(feed.values()))))
        answers = self._answer(feed)
        return [answers[name] for name in outputs]


class FakeBundle:
    """Calibration doubles a logit and adds one."""

    def __init__(self, answer: Answer) -> None:
        self.graph_session = FakeSession(answer)

    def session(self, name: str, threads: int) -> FakeSession:
        return self.graph_session

    def graph(self, name: str) -> dict[str, Any]:
        return {
            "visual": {"size": 8},
            "audio": {"samples": 4 * SAMPLE_RATE},
            "lipsync": {"size": 8, "pictures": 50},
        }[name]

    def calibrate(self, branch: str, logit: float) -> float:
        return 2 * logit + 1


def lasting(*numbers: int, start: float = 0.0, end: float = 60.0) -> list[Track]:
    """Tracks of these numbers over that time."""
    times, boxes = np.array([start, end]), np.zeros((2, 4), np.float32)
    return [Track(number, times, boxes, np.ones(2, bool)) for number in numbers]


class FakeSpeech:
    """Somebody speaks from `start` to `end`."""

    def __init__(self, start: float, end: float) -> None:
        self._start, self._end = start, end
        self.total = end - start

    def between(self, start: float, end: float) -> float:
        return max(0.0, min(end, self._end) - max(start, self._start))


# Visual


@pytest.fixture
def visual() -> VisualBranch:
    """A graph that answers a crop's first value."""
    return VisualBranch(
        FakeBundle(lambda feed: {"logit": feed["faces"][:, 0, 0, 0].astype(np.float32)})  # type: ignore[arg-type]
    )


def test_each_face_keeps_its_track_time_and_answer(visual: VisualBranch) -> None:
    faces = [(i % 3, i / 10, np.full((8, 8, 3), i, np.uint8)) for i in range(37)]
    scores = visual.score(faces)
    assert scores == [FaceScore(i % 3, i / 10, 2.0 * i + 1) for i in range(37)]
    assert visual.score([]) == []


def test_a_tracks_logit_is_its_mean_and_the_clips_that_of_the_worst(
    visual: VisualBranch,
) -> None:
    scores = [FaceScore(0, t, -2.0) for t in range(4)]
    scores += [FaceScore(1, t, value) for t, value in enumerate((1.0, 3.0, 5.0, 3.0))]
    answer, logits = visual.summarise(scores, lasting(0, 1))
    assert logits == {0: -2.0, 1: 3.0}
    assert answer.logit == 3.0


def test_a_face_seen_for_a_moment_does_not_decide(visual: VisualBranch) -> None:
    scores = [FaceScore(0, t / 3, -2.0) for t in range(30)] + [FaceScore(1, 0.0, 9.0)]
    answer, logits = visual.summarise(scores, lasting(0, 1))
    assert answer.logit == pytest.approx(-2.0)
    assert logits[1] == 9.0
    assert any(window.track == 1 for window in answer.windows)


def test_tracks_that_were_dropped_have_no_say(visual: VisualBranch) -> None:
    scores = [FaceScore(0, 0.0, -1.0), FaceScore(7, 0.0, 8.0)]
    answer, logits = visual.summarise(scores, lasting(0))
    assert answer.logit == -1.0
    assert set(logits) == {0}
    assert {window.track for window in answer.windows} == {0}


def test_no_face_is_absent(visual: VisualBranch) -> None:
    answer, logits = visual.summarise([], [])
    assert (answer.status, answer.reason, answer.logit) == ("absent", "no_face", None)
    assert logits == {}


def test_windows_are_seconds_and_end_with_the_track(visual: VisualBranch) -> None:
    scores = [FaceScore(0, time, value) for time, value in ((0.2, 1), (0.64, 3), (1.28, 5))]
    answer, _ = visual.summarise(scores, lasting(0, start=0.2, end=1.48))
    assert answer.windows == (Window(0.2, 1.0, 2.0, 0), Window(1.0, 1.52, 5.0, 0))


def test_a_still_image_is_a_moment(visual: VisualBranch) -> None:
    answer, _ = visual.summarise([FaceScore(0, 0.0, 1.0)], lasting(0, end=0.0))
    assert answer.windows == (Window(0.0, 0.0, 1.0, 0),)


def test_what_lies_beyond_a_trimmed_track_has_no_say(
    visual: VisualBranch, lipsync: LipSyncBranch
) -> None:
    """Motion carried the track on; nobody knows that it was still a face."""
    answer, _ = visual.summarise(
        [FaceScore(0, 1.0, -1.0), FaceScore(0, 3.0, 9.0)], lasting(0, end=2)
    )
    assert answer.logit == -1.0
    assert lipsync.summarise([sync(0, 1.0)], lasting(0, end=0.5)).reason == "too_short"


def test_an_activation_map_explains_its_logit(bundle: Bundle) -> None:
    """The map's mean differs from the raw logit by one constant, the bias, for every crop."""
    branch = VisualBranch(bundle, 1)
    rng = np.random.default_rng(0)
    gaps = []
    for _ in range(4):
        crop = rng.integers(0, 256, (branch.size, branch.size, 3), np.uint8)
        shift = bundle.calibrate("visual", 0.0)
        scale = bundle.calibrate("visual", 1.0) - shift
        raw = (branch.score([(0, 0.0, crop)])[0].logit - shift) / scale
        activation = branch.activation(crop)
        assert activation.ndim == 2
        gaps.append(raw - activation.mean())
    assert np.ptp(gaps) < 1e-3


# Audio


def audio(answer: Answer | None = None) -> AudioBranch:
    """A graph that answers a window's mean."""
    return AudioBranch(
        FakeBundle(answer or (lambda feed: {"logit": feed["sound"].mean(1)}))  # type: ignore[arg-type]
    )


def level(seconds: float, value: float = 0.5, start: float = 0.0) -> Sound:
    return Sound(np.full(round(seconds * SAMPLE_RATE), value, np.float32), start)


@pytest.mark.parametrize(
    ("sound", "speech", "reason"),
    [
        (None, None, "no_sound"),
        (level(0.6), FakeSpeech(0, 0.6), "too_short"),
        (level(8), FakeSpeech(0, 0), "no_speech"),
        (level(8), FakeSpeech(2, 2.8), "no_speech"),
    ],
)
def test_sound_that_is_not_judged(
    sound: Sound | None, speech: SpeechActivity | None, reason: str
) -> None:
    answer = audio().score(sound, speech)
    assert (answer.status, answer.reason, answer.logit) == ("absent", reason, None)


@pytest.mark.parametrize(
    ("seconds", "start", "spans"),
    [
        (4.0, 0.0, [(0, 4)]),
        (6.0, 0.0, [(0, 4), (2, 6)]),
        (7.0, 0.0, [(0, 4), (2, 6), (3, 7)]),
        (8.0, 1.5, [(1.5, 5.5), (3.5, 7.5), (5.5, 9.5)]),
        (2.5, 0.3, [(0.3, 2.8)]),
    ],
)
def test_windows_of_four_seconds_cover_the_speech(
    seconds: float, start: float, spans: list[tuple[float, float]]
) -> None:
    sound = level(seconds, start=start)
    answer = audio().score(sound, FakeSpeech(sound.start, sound.end))  # type: ignore[arg-type]
    assert [(w.start, w.end) for w in answer.windows] == [pytest.approx(s) for s in spans]
    assert {w.track for w in answer.windows} == {None}


def test_a_short_sound_is_looped_rather_than_padded() -> None:
    answer = audio().score(level(1.5), FakeSpeech(0, 1.5))  # type: ignore[arg-type]
    assert answer.logit == pytest.approx(2 * 0.5 + 1)


def test_windows_weigh_by_the_speech_in_them() -> None:
    """First second of an eight-second clip silent: [0,4) holds 3 s, the others 4 s."""
    ramp = Sound(np.repeat(np.float32([0.1, 0.2, 0.3, 0.4]), 2 * SAMPLE_RATE))
    answer = audio().score(ramp, FakeSpeech(1, 8))  # type: ignore[arg-type]
    logits = [2 * mean + 1 for mean in (0.15, 0.25, 0.35)]
    assert [w.logit for w in answer.windows] == pytest.approx(logits)
    assert answer.logit == pytest.approx(np.average(logits, weights=[3, 4, 4]))


def test_windows_without_speech_are_not_judged() -> None:
    answer = audio().score(level(20), FakeSpeech(8, 12))  # type: ignore[arg-type]
    assert [w.start for w in answer.windows] == [6, 8, 10]


def test_a_long_sound_goes_through_in_batches() -> None:
    branch = audio()
    answer = branch.score(level(120), FakeSpeech(0, 120))  # type: ignore[arg-type]
    batches = branch._session.batches  # type: ignore[attr-defined]
    assert sum(batches) == len(answer.windows) == 59
    assert max(batches) <= 16


def test_a_graph_that_answers_nan_is_not_believed() -> None:
    branch = audio(lambda feed: {"logit": np.full(len(feed["sound"]), np.nan)})
    with pytest.raises(ValueError, match="finite"):
        branch.score(level(5), FakeSpeech(0, 5))  # type: ignore[arg-type]


# Lip-sync


@pytest.fixture
def lipsync() -> LipSyncBranch:
    """A graph whose logit is the mouths' mean, offset five pictures, confidence 0.5."""

    def answer(feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        count = len(feed["mouths"])
        assert feed["mouths"].dtype == np.uint8
        assert feed["sound"].shape == (count, 2 * SAMPLE_RATE)
        assert feed["sound"].dtype == np.float32
        return {
            "logit": feed["mouths"].mean((1, 2, 3)).astype(np.float32),
            "offset": np.full(count, 5.0, np.float32),
            "confidence": np.full(count, 0.5, np.float32),
        }

    return LipSyncBranch(FakeBundle(answer))  # type: ignore[arg-type]


def test_each_mouth_window_meets_the_sound_of_its_time() -> None:
    seen: list[np.ndarray] = []

    def answer(feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.extend(feed["sound"])
        none = np.zeros(len(feed["mouths"]), np.float32)
        return {"logit": none, "offset": none, "confidence": none}

    branch = LipSyncBranch(FakeBundle(answer))  # type: ignore[arg-type]
    time = np.arange(10 * SAMPLE_RATE, dtype=np.float32) / SAMPLE_RATE
    sound = Sound(0.1 * (time + 0.3).astype(np.float32), start=0.3)  # its value tells the time
    mouths = np.zeros((50, 8, 8), np.uint8)
    branch.score([(0, start, mouths) for start in (0.5, 2.52, 4.0)], sound)
    assert [10 * part[0] for part in seen] == pytest.approx([0.5, 2.52, 4.0], abs=1e-3)
    assert [10 * part[-1] for part in seen] == pytest.approx([2.5, 4.52, 6.0], abs=1e-3)


def test_offsets_are_in_seconds_and_late_sound_is_positive(lipsync: LipSyncBranch) -> None:
    clips = [(3, 1.0, np.full((50, 8, 8), 2, np.uint8))] * 6
    scores = lipsync.score(clips, level(10))
    assert len(scores) == 6
    assert scores[0] == SyncScore(Window(1.0, 3.0, 5.0, 3), 0.2, 0.5)
    answer = lipsync.summarise(scores, lasting(3))
    assert answer.details["offset_ms"] == pytest.approx(200)
    assert answer.details["confidence"] == pytest.approx(0.5)
    assert answer.logit == pytest.approx(5.0)


def sync(track: int, logit: float, offset: float = 0.0, confidence: float = 1.0) -> SyncScore:
    return SyncScore(Window(0, 2, logit, track), offset, confidence)


def test_the_speaker_is_the_track_that_fits_best(lipsync: LipSyncBranch) -> None:
    scores = [sync(0, 4.0, 0.3), sync(0, 3.0, 0.3), sync(1, -2.0, 0.04), sync(1, -1.0, 0.08)]
    answer = lipsync.summarise(scores, lasting(0, 1))
    assert answer.logit == pytest.approx(-1.5)
    assert {w.track for w in answer.windows} == {1}
    assert answer.details["offset_ms"] == pytest.approx(60)


def test_a_face_seen_for_a_moment_is_not_the_speaker(lipsync: LipSyncBranch) -> None:
    scores = [sync(0, 2.0)] * 8 + [sync(1, -6.0)]
    assert lipsync.summarise(scores, lasting(0, 1)).logit == pytest.approx(2.0)


def test_one_wild_offset_does_not_move_the_median(lipsync: LipSyncBranch) -> None:
    scores = [sync(0, 0.0, offset) for offset in (0.04, 0.04, 0.6)]
    assert lipsync.summarise(scores, lasting(0)).details["offset_ms"] == pytest.approx(40)


def test_no_complete_window_is_too_short(lipsync: LipSyncBranch) -> None:
    answer = lipsync.summarise([], lasting(0))
    assert (answer.status, answer.reason) == ("absent", "too_short")
    assert lipsync.summarise([sync(5, 0.0)], lasting(0)).reason == "too_short"
