"""Twins of real speech: made once, kept, and of the right people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("librosa")
pytest.importorskip("soundfile")

from tests.training.utterances import uttered  # noqa: E402
from tests.training.voices import voice  # noqa: E402
from training.fakes.audio import METHODS  # noqa: E402
from training.fakes.vocoders import VOCODERS  # noqa: E402
from training.voices import Copier, Lesson, make_twins, pitch_of, train_vocoder  # noqa: E402

WAYS = {name: METHODS[name] for name in ("upsampling_images", "griffin_lim")}


def test_pitch_is_found_where_there_is_one() -> None:
    time = np.arange(16_000) / 16_000
    hum = sum(np.sin(2 * np.pi * 137 * k * time) / k for k in range(1, 8)).astype(np.float32)
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    found = pitch_of(hum)
    assert found.shape == (101,)
    assert np.median(found) == pytest.approx(137, rel=0.01)
    assert (pitch_of(noise) > 0).mean() < 0.2


def test_a_vocoder_is_trained_and_copies(tmp_path: Path) -> None:
    lesson = Lesson(steps=4, batch=2, samples=4_800, judged=0.5)
    vocoder = train_vocoder("source_filter", [voice(seed) for seed in range(3)], lesson)
    copy = Copier(vocoder)
    real = voice(5)
    first, again = (copy(real, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == real.shape
    assert np.mean(first**2) == pytest.approx(np.mean(real**2), rel=1e-3)
    assert set(VOCODERS) >= {"source_filter", "bottleneck"}


def test_twins_belong_to_their_originals_and_are_made_once(tmp_path: Path) -> None:
    speech = [uttered("univnet-gt", f"{200 + i}_1_0", 0, i) for i in range(3)]
    twins = make_twins(speech, WAYS, 2, tmp_path)
    assert [twin.original for twin in twins] == [item.path for item in speech for _ in range(2)]
    assert {twin.speaker for twin in twins} == {"200", "201", "202"}
    assert {twin.source for twin in twins} == {"twin-upsampling_images", "twin-griffin_lim"}
    assert all(twin.label == 1 and len(twin.versions) == 2 for twin in twins)
    files = sorted(tmp_path.glob("*/*.flac"))
    assert len(files) == 6
    times = [file.stat().st_mtime_ns for file in files]
    again = make_twins(speech, WAYS, 2, tmp_path)
    assert [file.stat().st_mtime_ns for file in files] == times
    np.testing.assert_array_equal(again[3].versions[1], twins[3].versions[1])
