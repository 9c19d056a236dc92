"""Pseudo-fakes keep what must not tell the class, and change what must."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("librosa")

import librosa

from tests.training.voices import voice
from training.fakes.audio import METHODS, griffin_lim, splice, upsampling_images


def _envelope(samples: np.ndarray) -> np.ndarray:
    return librosa.feature.rms(y=samples, frame_length=800, hop_length=400)[0]


def _power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_fake_keeps_length_power_and_timing_but_not_the_wave(name: str) -> None:
    real = voice(1)
    fake = METHODS[name](real, np.random.default_rng(5))
    assert fake.shape == real.shape
    assert fake.dtype == np.float32
    assert _power(fake) == pytest.approx(_power(real), rel=1e-3)
    # Syllables stay where they were...
    assert np.corrcoef(_envelope(real), _envelope(fake))[0, 1] > 0.9
    # ...but it is another wave.
    assert np.abs(fake - real).max() > 0.02


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_same_seed_makes_the_same_fake(name: str) -> None:
    real = voice(2)
    first, again = (METHODS[name](real, np.random.default_rng(7)) for _ in range(2))
    other = METHODS[name](real, np.random.default_rng(8))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_linear_prediction_stays_stable_on_frames_that_begin_in_silence() -> None:
    # Single precision made unstable filters, and with them infinities, of such frames.
    for seed in range(6):
        real = voice(seed, 1.5)
        real[: 4_000 + 37 * seed] = 0.0
        fake = METHODS["linear_prediction"](real, np.random.default_rng(seed))
        assert np.abs(fake).max() < 20 * np.abs(real).max()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_silence_and_odd_lengths_do_not_break_a_method(name: str) -> None:
    for real in (np.zeros(16_000, np.float32), voice(3)[:24_577]):
        fake = METHODS[name](real, np.random.default_rng(0))
        assert len(fake) == len(real)
        assert np.isfinite(fake).all()


def test_griffin_lim_keeps_magnitudes_and_loses_phase() -> None:
    real = voice(4)
    fake = griffin_lim(real, np.random.default_rng(1))
    spectra = [librosa.stft(sound, n_fft=800) for sound in (real, fake)]
    loud = np.abs(spectra[0]) > np.percentile(np.abs(spectra[0]), 95)
    magnitudes = [np.abs(spectrum[loud]) for spectrum in spectra]
    assert np.corrcoef(*magnitudes)[0, 1] > 0.8
    turn = np.angle(spectra[1][loud] / spectra[0][loud])
    assert abs(np.mean(np.exp(1j * turn))) < 0.6


def test_upsampling_puts_power_where_the_voice_has_none() -> None:
    real = librosa.resample(
        librosa.resample(voice(5), orig_sr=16_000, target_sr=6_000), orig_sr=6_000, target_sr=16_000
    )
    fake = upsampling_images(real, np.random.default_rng(1))
    high = slice(int(4500 / 8000 * 512), None)
    real_top, fake_top = (
        np.abs(librosa.stft(sound, n_fft=1024))[high].sum() for sound in (real, fake)
    )
    assert fake_top > 10 * real_top


def test_a_splice_is_real_outside_and_fake_inside_without_a_click() -> None:
    length = 32_000
    real, fake = np.zeros(length, np.float32), np.ones(length, np.float32)
    shares = []
    for seed in range(20):
        mixed = splice(real, fake, np.random.default_rng(seed))
        assert mixed.shape == (length,)
        assert np.abs(np.diff(mixed)).max() < 0.02
        shares.append(float((mixed > 0.5).mean()))
    assert min(shares) >= 0.38
    assert max(shares) <= 1.0
    assert np.std(shares) > 0.05
