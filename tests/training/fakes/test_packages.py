"""Vocoders of other packages: used where installed, named where not."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

librosa = pytest.importorskip("librosa")

from tests.training.voices import voice  # noqa: E402
from training.fakes.packages import coloured_like, installed  # noqa: E402


def test_what_is_not_installed_is_told_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    makers, missing = installed()
    assert makers == {}
    assert len(missing) == 2
    assert all("pip install" in line for line in missing)


@pytest.mark.parametrize("name", ["world", "melgan"])
def test_a_fake_keeps_length_power_and_syllables(name: str) -> None:
    makers, _ = installed()
    if name not in makers:
        pytest.skip(f"{name} is not installed")
    real = voice(1)
    fake = makers[name](real, np.random.default_rng(0))
    assert fake.shape == real.shape
    assert fake.dtype == np.float32
    assert np.mean(fake**2) == pytest.approx(np.mean(real**2), rel=1e-2)
    first, second = (librosa.feature.rms(y=sound, hop_length=400)[0] for sound in (real, fake))
    assert np.corrcoef(first, second)[0, 1] > 0.6
    assert np.abs(fake - real).max() > 0.02


def test_colour_is_taken_over_and_time_is_kept() -> None:
    real = voice(2)
    dull = np.convolve(real, np.ones(8) / 8, "same").astype(np.float32)
    again = coloured_like(dull, real)
    bands = [np.abs(librosa.stft(sound, n_fft=512)).mean(1) for sound in (real, dull, again)]
    high = slice(64, 190)
    before, after = (np.abs(np.log(bands[i][high] / bands[0][high])).mean() for i in (1, 2))
    assert after < 0.5 * before
