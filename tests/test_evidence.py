"""Evidence: the faces that are shown are those that were judged, and what is shown of the sound is
in it."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from avfake.detector import Detector
from avfake.evidence import (
    SIDE,
    _heated,
    _picked,
    encode_jpeg,
    encode_png,
    moment_at,
    moments,
    moments_and_stills,
    pitch,
    spectrogram,
    waveform,
)
from avfake.media import Clip
from avfake.tracks import SEARCH_EVERY
from avfake.types import SAMPLE_RATE, AvfakeError, BranchScore, Prediction, Sound, Window
from tests.clips import moving_portrait, portrait, write_clip


def tone(frequency: float, seconds: float, level: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (level * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


# Moments


def test_moments_are_the_looks_that_were_scored(
    detector: Detector, sample_path: Path, sample_prediction: Prediction
) -> None:
    """Asked again, all looks of a second average to what the prediction says of that second."""
    for window in sample_prediction.branches["visual"].windows:
        times = [t for t in np.arange(15) * 0.4 if int(t + 1e-9) == int(window.start)]
        looks = [moment_at(sample_path, sample_prediction, detector, 0, t) for t in times]
        assert [look.time for look in looks] == pytest.approx(times)
        assert np.mean([look.logit for look in looks]) == pytest.approx(window.logit, abs=1e-3)


def test_the_worst_moments_come_first_and_lie_apart(
    detector: Detector, sample_path: Path, sample_prediction: Prediction
) -> None:
    found = moments(sample_path, sample_prediction, detector, count=4)
    assert len(found) == 4
    logits = [moment.logit for moment in found]
    assert logits == sorted(logits, reverse=True)
    assert len({int(moment.time) for moment in found}) == 4
    worst = max(sample_prediction.branches["visual"].windows, key=lambda w: w.logit)
    assert int(worst.start) in {int(moment.time) for moment in found}
    for moment in found:
        assert moment.crop.shape == moment.heat.shape == (SIDE, SIDE, 3)
        assert moment.crop.dtype == moment.heat.dtype == np.uint8


def test_each_face_is_shown_before_any_is_shown_again() -> None:
    windows = [Window(float(s), s + 1.0, 3.0 - s / 10, 0) for s in range(10)]
    windows += [Window(float(s), s + 1.0, -3.0 + s / 10, 1) for s in range(10)]
    picked = _picked(windows, 4)
    assert {window.track for window in picked[:2]} == {0, 1}
    assert [(w.track, w.start) for w in picked[:2]] == [(0, 0.0), (1, 9.0)]
    assert all(window.track == 0 for window in picked[2:])
    starts = sorted(window.start for window in picked if window.track == 0)
    assert min(np.diff(starts)) >= 10 / 8


def test_a_clip_without_faces_has_no_moments(
    detector: Detector, sample_path: Path, sample_prediction: Prediction
) -> None:
    branches = dict(sample_prediction.branches) | {"visual": BranchScore.absent("no_face")}
    faceless = replace(sample_prediction, branches=branches)
    assert moments(sample_path, faceless, detector) == ()
    with pytest.raises(AvfakeError) as caught:
        moment_at(sample_path, faceless, detector, 0, 1.0)
    assert caught.value.reason == "no_such_face"


def test_a_face_that_is_not_there_is_told(
    detector: Detector, sample_path: Path, sample_prediction: Prediction
) -> None:
    with pytest.raises(AvfakeError, match="No face 7"):
        moment_at(sample_path, sample_prediction, detector, 7, 1.0)


def test_times_beyond_the_clip_give_its_last_look(
    detector: Detector, sample_path: Path, sample_prediction: Prediction
) -> None:
    assert moment_at(sample_path, sample_prediction, detector, 0, 99.0).time == pytest.approx(5.6)
    assert moment_at(sample_path, sample_prediction, detector, 0, -9.0).time == 0.0


def test_a_still_image_has_one_moment(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    cv2.imwrite(str(path), portrait()[..., ::-1])
    prediction = detector.predict(path)
    (moment,) = moments(path, prediction, detector)
    assert moment.time == 0.0
    assert moment.logit == pytest.approx(prediction.branches["visual"].logit, abs=1e-4)


@pytest.mark.parametrize("fps", [25, 29.97, 12.5])
def test_looks_are_the_very_pictures_of_scoring(tmp_path: Path, fps: float) -> None:
    """Evidence decodes 2.5 pictures a second, scoring every tenth of 25: they are the same."""
    frames, _ = moving_portrait(40, fps, (120, 160))
    path = write_clip(tmp_path / "clip.mp4", frames, fps)
    with Clip(path) as clip:
        scored = [p for p in clip.pictures(SEARCH_EVERY) if p.colour is not None]
    with Clip(path) as clip:
        shown = list(clip.pictures(1, 2.5))[: len(scored)]
    assert [p.time for p in shown] == [p.time for p in scored]
    for one, other in zip(shown, scored, strict=True):
        np.testing.assert_array_equal(one.colour, other.colour)


def test_heat_is_orange_for_fake_blue_for_real_and_grey_between() -> None:
    crop = np.full((64, 64, 3), (90, 120, 150), np.uint8)
    heat = _heated(crop, np.array([[4.0, 0.0, 0.0, 0.0, -4.0]] * 3, np.float32))
    red, green, blue = (int(v) for v in heat[32, 5])
    assert red > green > blue
    red, green, blue = (int(v) for v in heat[32, -5])
    assert red < green < blue
    middle = heat[32, 32].astype(int)
    assert middle.max() - middle.min() <= 6


def test_heat_says_how_sure_in_the_same_way_for_every_clip() -> None:
    crop = np.full((64, 64, 3), 128, np.uint8)
    weak, strong = (_heated(crop, np.full((4, 4), v, np.float32))[32, 32] for v in (0.5, 2.0))
    assert int(strong[0]) - int(strong[2]) > 2 * (int(weak[0]) - int(weak[2])) > 20


# Sound


def brightness(picture: np.ndarray) -> np.ndarray:
    return picture.astype(float).sum(2)


@pytest.mark.parametrize("frequency", [300, 1000, 5000])
def test_a_tone_stands_at_its_pitch(frequency: float) -> None:
    picture = brightness(spectrogram(Sound(tone(frequency, 2.0)), 120, 200))
    brightest = 1 - (picture.mean(1).argmax() + 0.5) / 200
    assert brightest == pytest.approx(pitch(frequency), abs=0.02)


def test_time_runs_from_edge_to_edge() -> None:
    samples = np.concatenate([np.zeros(SAMPLE_RATE * 3, np.float32), tone(800, 1.0)])
    columns = brightness(spectrogram(Sound(samples), 400, 64)).max(0)
    loud = np.flatnonzero(columns > columns.max() - 60)
    assert loud[0] == pytest.approx(300, abs=3)
    assert loud[-1] == 399


def test_a_click_shows_in_a_long_sound() -> None:
    """A column of many seconds holds all its samples, not a few of them."""
    samples = np.zeros(SAMPLE_RATE * 600, np.float32)
    samples[SAMPLE_RATE * 300 : SAMPLE_RATE * 300 + 800] = tone(1000, 0.05)
    columns = brightness(spectrogram(Sound(samples), 100, 64)).max(0)
    assert columns.argmax() == 50
    assert columns[50] > columns[20] + 50


def test_silence_is_dark_and_an_empty_sound_is_no_fault() -> None:
    dark = spectrogram(Sound(np.zeros(8000, np.float32)), 50, 20)
    assert dark.shape == (20, 50, 3)
    assert len(np.unique(dark.reshape(-1, 3), axis=0)) == 1
    noise = np.random.default_rng(0).normal(0, 3e-6, 8000).astype(np.float32)
    np.testing.assert_array_equal(spectrogram(Sound(noise), 50, 20), dark)
    np.testing.assert_array_equal(spectrogram(Sound(np.zeros(0, np.float32)), 50, 20), dark)
    assert not waveform(Sound(np.zeros(0, np.float32)), 5).any()


def test_a_long_sound_needs_little_memory() -> None:
    sound = Sound(np.zeros(SAMPLE_RATE * 900, np.float32))
    tracemalloc.start()
    spectrogram(sound, 800, 128)
    waveform(sound, 800)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 80e6


def test_a_waveform_has_the_lowest_and_the_highest_of_each_column() -> None:
    samples = np.zeros(1000, np.float32)
    samples[250], samples[799] = -0.5, 0.75
    wave = waveform(Sound(samples), 10)
    assert wave.shape == (10, 2)
    assert wave.dtype == np.float32
    assert wave[2].tolist() == [-0.5, 0.0]
    assert wave[7].tolist() == [0.0, 0.75]
    assert not np.delete(wave, [2, 7], 0).any()
    assert waveform(Sound(samples[:3]), 10).shape == (10, 2)


# Files


def test_pictures_become_png_and_jpeg_with_their_colours() -> None:
    picture = np.full((8, 16, 3), (200, 40, 10), np.uint8)
    for data, bound in ((encode_png(picture), 0), (encode_jpeg(picture), 8)):
        back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(back.astype(int) - picture).max() <= bound
    assert encode_png(picture).startswith(b"\x89PNG")
    assert encode_jpeg(picture).startswith(b"\xff\xd8\xff")


# Stills


def test_stills_are_taken_on_the_way_with_their_faces_framed(
    detector: Detector, sample_path: Path, sample_prediction: Prediction
) -> None:
    times = (0.5, 2.5, 4.5)
    found, stills = moments_and_stills(sample_path, sample_prediction, detector, 2, times)
    assert [m.time for m in found] == [
        m.time for m in moments(sample_path, sample_prediction, detector, 2)
    ]
    assert [still.time for still in stills] == pytest.approx(times, abs=0.2)
    for still in stills:
        assert still.picture.shape == (384, 384, 3)
        left, top, _, _ = sample_prediction.tracks[0].boxes[round(still.time * 25)]
        frame = still.picture[round(top) - 3 : round(top) + 4, round(left) + 20]
        assert frame.max() > 225
        assert frame.min() < 60


def test_a_clip_without_faces_has_stills_all_the_same(
    detector: Detector, sample_path: Path, sample_prediction: Prediction
) -> None:
    faceless = replace(sample_prediction, branches={}, tracks=())
    found, stills = moments_and_stills(sample_path, faceless, detector, 6, (1.0, 99.0))
    assert found == ()
    assert len(stills) == 1
