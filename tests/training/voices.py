"""Made-up voices for tests: harmonics of a gliding pitch, shaped by syllables."""

from __future__ import annotations

import numpy as np

RATE = 16_000


def voice(seed: int, seconds: float = 2.0) -> np.ndarray:
    """float32 [seconds * 16000], peak 0.5: vowel-like sound with pauses, and a little breath."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = rng.uniform(100, 220) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = rng.uniform([400, 1200, 2400], [800, 2000, 3200])
    sound = np.zeros_like(time)
    for harmonic in range(1, 30):
        frequency = harmonic * pitch.mean()
        loud = sum(np.exp(-(((frequency - formant) / 300) ** 2)) for formant in formants)
        sound += (0.02 + loud) * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 3 * time + rng.uniform(0, 6)) + 0.4, 0, 1)
    sound = syllables * sound / np.abs(sound).max() + 0.003 * rng.standard_normal(len(time))
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)
