"""A journey changes sound the way the world does, and keeps its clock."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import welch

from tests.training.voices import voice
from training.augment_sound import (
    CODECS,
    Journey,
    add_noise,
    delay,
    equalised,
    gated,
    narrow,
    reverberate,
    through_codec,
    to_peak,
)


def _lag(first: np.ndarray, second: np.ndarray, reach: int = 800) -> int:
    """Samples by which `second` comes after `first`."""
    middle = first[reach:-reach]
    return int(np.correlate(second, middle, mode="valid").argmax()) - reach


@pytest.mark.parametrize("codec", sorted(CODECS))
@pytest.mark.parametrize("bit_rate", [24_000, 64_000])
def test_a_codec_keeps_the_voice_and_its_time(codec: str, bit_rate: int) -> None:
    sound = voice(1)
    heard = through_codec(sound, codec, bit_rate)
    assert heard.shape == sound.shape
    assert heard.dtype == np.float32
    assert abs(_lag(sound, heard)) <= 32  # 2 ms
    assert 0.9 < np.corrcoef(sound, heard)[0, 1] < 0.99999


def test_fewer_bits_lose_more() -> None:
    sound = voice(2)
    errors = [
        np.mean((through_codec(sound, "mp3", rate) - sound) ** 2) for rate in (24_000, 96_000)
    ]
    assert errors[0] > errors[1]


def test_a_narrow_channel_has_nothing_above_half_its_rate() -> None:
    sound = np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    heard = narrow(sound, 8_000)
    frequency, power = welch(heard, 16_000)
    assert power[frequency > 4_500].max() < 1e-3 * power[frequency < 3_500].mean()
    assert abs(_lag(sound, heard)) <= 1


def test_noise_has_the_ratio_that_was_asked_for() -> None:
    sound = voice(3)
    for colour in (0.0, 0.9):
        noise = add_noise(sound, 20.0, colour, np.random.default_rng(0)) - sound
        ratio = 10 * np.log10(np.mean(sound**2) / np.mean(noise**2))
        assert ratio == pytest.approx(20, abs=0.1)


def test_a_room_answers_after_the_sound_and_dies_away() -> None:
    click = np.zeros(16_000, np.float32)
    click[1_000] = 1.0
    heard = reverberate(click, 0.5, 0.4, np.random.default_rng(0))
    assert np.abs(heard[:1_000]).max() < 1e-6
    assert np.abs(heard).argmax() == 1_000
    early, late = heard[1_001:3_000], heard[7_000:9_000]
    assert np.mean(early**2) > 100 * np.mean(late**2)


def test_delay_and_level() -> None:
    sound = voice(4)
    late = delay(sound, 500)
    assert not late[:500].any()
    np.testing.assert_array_equal(late[500:], sound[:-500])
    assert np.abs(to_peak(sound, -6.0)).max() == pytest.approx(10 ** (-6 / 20), rel=1e-4)
    assert np.mean(np.abs(to_peak(sound, 6.0)) == 1.0) > 0.001


def test_a_gate_empties_pauses_and_leaves_the_voice() -> None:
    sound = voice(6)
    noisy = np.concatenate([sound, add_noise(0 * sound + 1e-9, 0.0, 0.5, np.random.default_rng(0))])
    noisy[len(sound) :] *= 0.002 / np.abs(noisy[len(sound) :]).max()
    quiet = gated(noisy, 35.0)
    assert quiet.shape == noisy.shape
    assert np.mean(quiet[-8_000:] ** 2) < 1e-3 * np.mean(noisy[-8_000:] ** 2)
    assert np.corrcoef(quiet[: len(sound)], sound)[0, 1] > 0.99


def test_a_microphones_response_is_what_was_asked_for() -> None:
    sound = np.random.default_rng(0).standard_normal(64_000).astype(np.float32)
    heard = equalised(sound, (0.0, 0.0, 0.0, 0.0, 6.0, -6.0, 0.0, 0.0, 0.0))
    assert abs(_lag(sound, heard)) == 0
    frequency, before = welch(sound, 16_000, nperseg=512)
    _, after = welch(heard, 16_000, nperseg=512)
    change = 10 * np.log10(after / before)
    for hertz, gain in ((1_000, 0.0), (4_000, 6.0), (5_000, -6.0), (7_000, 0.0)):
        assert change[np.argmin(np.abs(frequency - hertz))] == pytest.approx(gain, abs=1.5)


def test_without_codecs_a_journey_has_none() -> None:
    drawn = [Journey.draw(np.random.default_rng(seed), codecs=False) for seed in range(100)]
    assert {journey.codec for journey in drawn} == {None}


def test_a_journey_is_the_same_for_both_who_walk_it() -> None:
    sound = voice(5)
    for seed in range(30):
        journey = Journey.draw(np.random.default_rng(seed))
        first, second = journey(sound), journey(sound)
        np.testing.assert_array_equal(first, second)
        assert first.shape == sound.shape
        assert first.dtype == np.float32
        assert np.isfinite(first).all()


def test_journeys_differ() -> None:
    drawn = [Journey.draw(np.random.default_rng(seed)) for seed in range(300)]
    assert {journey.codec for journey in drawn} == {None, *CODECS}
    assert {journey.band for journey in drawn} == {None, 8_000, 11_025, 12_000}
    untouched = [
        journey
        for journey in drawn
        if not any((journey.codec, journey.band, journey.lead, journey.tilt, journey.noise_ratio))
    ]
    assert untouched
