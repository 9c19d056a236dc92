"""Speech is heard where it is, loud or quiet; silence, hum and noise are not speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avfake.media import Clip
from avfake.speech import SpeechActivity
from avfake.types import SAMPLE_RATE, Sound


@pytest.fixture(scope="module")
def voice(sample_path: Path) -> np.ndarray:
    """Four seconds of the sample's voice."""
    with Clip(sample_path) as clip:
        sound = clip.sound()
    assert sound is not None
    return sound.between(0.5, 4.5)


@pytest.mark.parametrize("gain", [0.02, 0.3, 1.0])
def test_speech_is_heard_at_any_level(voice: np.ndarray, gain: float) -> None:
    assert SpeechActivity(Sound((voice * gain).astype(np.float32))).total > 2.5


SECOND = np.arange(SAMPLE_RATE * 3) / SAMPLE_RATE
RNG = np.random.default_rng(0)
QUIET = {
    "silence": 0 * SECOND,
    "empty channel": RNG.normal(0, 1e-4, len(SECOND)),
    "rumble": np.cumsum(RNG.normal(0, 5e-4, len(SECOND))),
    "clicks": 0.5 * (SECOND % 0.5 < 0.002),
    "nothing": np.zeros(0),
}
STEADY = {
    "noise": RNG.normal(0, 0.1, len(SECOND)),
    "mains hum": 0.3 * np.sin(2 * np.pi * 50 * SECOND),
    "dial tone": 0.3 * np.sin(2 * np.pi * 440 * SECOND),
}


@pytest.mark.parametrize("name", QUIET)
def test_what_is_no_speech(name: str) -> None:
    assert SpeechActivity(Sound(QUIET[name].astype(np.float32))).total < 0.3


@pytest.mark.parametrize("name", STEADY)
def test_steady_noise_is_no_speech(name: str) -> None:
    assert SpeechActivity(Sound(STEADY[name].astype(np.float32))).total < 0.3


@pytest.mark.parametrize("start", [0.0, 0.7, -0.4])
def test_speech_is_where_it_is_on_the_clips_clock(voice: np.ndarray, start: float) -> None:
    """Two seconds of silence, four of speech, two of silence; the sound begins at `start`."""
    quiet = np.zeros(2 * SAMPLE_RATE, np.float32)
    speech = SpeechActivity(Sound(np.concatenate([quiet, voice, quiet]), start))
    assert speech.between(start, start + 1.8) == 0
    assert speech.between(start + 6.3, start + 8) == 0
    inside = speech.between(start + 2, start + 6)
    assert inside > 2.5
    assert inside == pytest.approx(speech.total, abs=0.3)
    halves = [speech.between(start + a, start + a + 2) for a in (2, 4)]
    assert sum(halves) == pytest.approx(inside, abs=0.04)


def test_beyond_the_sound_there_is_no_speech(voice: np.ndarray) -> None:
    speech = SpeechActivity(Sound(voice))
    assert speech.between(-5, 0) == 0
    assert speech.between(4, 9) == 0
    assert speech.between(-5, 9) == pytest.approx(speech.total)
    assert speech.total <= 4.0
