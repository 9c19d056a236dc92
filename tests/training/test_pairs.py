"""The pairs are pairs, trials cover everybody, and shortcuts say nothing."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("librosa")

from tests.training.utterances import some_speech, twin_of, uttered
from tests.training.voices import RATE, voice
from training.pairs import PairBatches, cut_alike, make_trials
from training.shortcuts import FEATURES, loop_seconds, probe_auc, shortcuts


def test_cuts_are_of_one_length_and_place() -> None:
    ramp = np.arange(80_000, dtype=np.float32)
    for seed in range(20):
        first, second = cut_alike(ramp, 2 * ramp[:40_000], np.random.default_rng(seed))
        assert 24_000 <= len(first) == len(second) <= 40_000
    first, second = cut_alike(ramp, ramp, np.random.default_rng(3))
    np.testing.assert_array_equal(first, second)


def test_a_batch_is_drawn_by_its_number_alone() -> None:
    one, again = (PairBatches(some_speech(), pairs=4, steps=9, seed=1) for _ in range(2))
    first, second = one[5], again[5]
    assert first["sound"].shape == (8, 64_000)
    assert first["label"].tolist() == [0.0] * 4 + [1.0] * 4
    assert (first["sound"] == second["sound"]).all()
    assert not (first["sound"] == one[6]["sound"]).all()


def test_a_fake_stands_beside_the_very_utterance_that_it_was_made_from() -> None:
    real = [uttered("librispeech", f"{i}-1-0", 0, i, 4.0) for i in range(6)]
    speech = real + [twin_of(item, "echo", i) for i, item in enumerate(real)]
    for item, copy in zip(real, speech[6:], strict=True):
        # The twin is the real sound itself: then only the pairing can make the pairs equal.
        copy.versions[0][:] = item.versions[0]
        copy.versions[1][:] = item.versions[1]
    sounds = PairBatches(speech, pairs=30, steps=1)[0]["sound"].numpy()
    alike = [np.corrcoef(sounds[i], sounds[i + 30])[0, 1] for i in range(30)]
    assert min(alike) > 0.999


def test_well_trained_vocoders_are_drawn_more_often() -> None:
    real = [uttered("librispeech", f"{i}-1-0", 0, i, 1.6) for i in range(4)]
    ways = ("melgan", "world", "spectral")
    batches = PairBatches(
        real + [twin_of(item, way, 7) for item in real for way in ways], pairs=1, steps=1
    )
    rng = np.random.default_rng(0)
    drawn = [batches._twin(rng).source for _ in range(400)]
    shares = [drawn.count(f"twin-{way}") / 400 for way in ways]
    assert shares == pytest.approx([10 / 12.25, 2 / 12.25, 0.25 / 12.25], abs=0.06)


def test_no_fakes_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="no fakes"):
        PairBatches([uttered("librispeech", "1-1-0", 0, 1)], pairs=1, steps=1)[0]


def test_shortcuts_see_what_they_are_named_for() -> None:
    window = np.resize(np.pad(voice(1, 1.5), (RATE // 2, 0)), 64_000)
    seen = dict(zip(FEATURES, shortcuts(window), strict=True))
    assert seen["lead"] == pytest.approx(0.5, abs=0.2)
    assert seen["peak"] == pytest.approx(20 * np.log10(0.5), abs=0.1)
    assert loop_seconds(np.resize(voice(2, 1.7), 64_000)) == pytest.approx(1.7)
    assert loop_seconds(voice(2, 4.0)) == 4.0


def test_the_probe_finds_a_leak_and_finds_none_where_none_is() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    groups = [str(index % 50) for index in range(400)]
    honest = rng.standard_normal((400, len(FEATURES)))
    leaking = honest + np.outer(labels, [0, 0, 0, 3, 0, 0, 0])
    assert abs(probe_auc(honest, labels, groups) - 0.5) < 0.1
    assert probe_auc(leaking, labels, groups) > 0.95


def test_shortcuts_do_not_tell_real_from_fake_in_a_batch() -> None:
    sounds = PairBatches(some_speech(), pairs=24, steps=1)[0]["sound"].numpy()
    features = np.array([shortcuts(sound) for sound in sounds])
    loops, level = features[:, FEATURES.index("loop")], features[:, FEATURES.index("peak")]
    # Within each pair: looped after the same time, and of the same peak.
    np.testing.assert_allclose(loops[:24], loops[24:])
    assert np.median(np.abs(level[:24] - level[24:])) < 1.0


def test_trials_cover_every_utterance_and_some_twins() -> None:
    speech = some_speech()
    counts = [len(make_trials(speech, twins_each=each)) for each in (0, 1, 2)]
    assert counts == [18, 18 + 13, 18 + 23]
    trials = make_trials(speech)
    assert sum(trial.twin for trial in trials) == 23
    assert all(trial.clean.shape == trial.travelled.shape == (64_000,) for trial in trials)
