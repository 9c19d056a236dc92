"""Made-up utterances of the packs' naming, for tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.training.voices import voice
from training.speech import Utterance, speaker_of


def uttered(source: str, group: str, label: int, seed: int, seconds: float = 2.0) -> Utterance:
    """As it is, and a second version 6 dB down that stands for a coded one."""
    sound = voice(seed, seconds)
    versions = tuple(np.rint(32767 * gain * sound).astype("<i2") for gain in (1.0, 0.5))
    path = f"speech/{source}/{group}-{seed}.flac"
    return Utterance(path, group, speaker_of(source, group), source, label, versions)


def twin_of(item: Utterance, way: str, seed: int) -> Utterance:
    """Another voice of the same length, said to be made from `item`."""
    fake = uttered(item.source, item.group, 1, seed, len(item.versions[0]) / 16_000)
    path = f"{way}/{seed}.flac"
    return replace(fake, path=path, source=f"twin-{way}", original=item.path)


def some_speech() -> list[Utterance]:
    """Ten voices of one pack, two of a vocoder's ground truth, its fakes, two voices of a TTS."""
    real = [uttered("librispeech", f"{100 + i}-1-0", 0, i, 1.6 + i / 6) for i in range(10)]
    truth = [uttered("univnet-gt", f"{103 + i}_1_0", 0, 20 + i) for i in range(3)]
    fake = [uttered("univnet", f"{103 + i}_1_0", 1, 30 + i) for i in range(3)]
    voices = [uttered("tortoise", name, 1, 40 + i) for i, name in enumerate(("tom", "emma"))]
    twins = [twin_of(item, "world", 60 + i) for i, item in enumerate(real + truth)]
    twins += [twin_of(item, "spectral", 80 + i) for i, item in enumerate(real)]
    return real + truth + fake + voices + twins
