"""The pairs are pairs, the speakers do not cross, and shortcuts say nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
soundfile = pytest.importorskip("soundfile")

from tests.training.voices import RATE, voice  # noqa: E402
from training.shortcuts import FEATURES, loop_seconds, probe_auc, shortcuts  # noqa: E402
from training.speech import (  # noqa: E402
    PairBatches,
    Utterance,
    cut_alike,
    hold_out,
    load_speech,
    make_trials,
    speaker_of,
)


def utterance(source: str, group: str, label: int, seed: int, seconds: float = 2.0) -> Utterance:
    path = f"speech/{source}/{group}-{seed}.flac"
    speaker = speaker_of(source, group)
    return Utterance(path, group, speaker, source, label, voice(seed, seconds))


@pytest.fixture(scope="module")
def utterances() -> list[Utterance]:
    real = [utterance("librispeech", f"{100 + i}-1-0", 0, i, 1.6 + i / 3) for i in range(6)]
    truth = [utterance("univnet-gt", f"{103 + i}_1_0", 0, 20 + i) for i in range(3)]
    fake = [utterance("univnet", f"{103 + i}_1_0", 1, 30 + i) for i in range(3)]
    voices = [utterance("tortoise", name, 1, 40 + i) for i, name in enumerate(("tom", "emma"))]
    return real + truth + fake + voices


def test_one_person_has_one_name_in_every_pack() -> None:
    assert speaker_of("librispeech", "1089-134691-0000") == "1089"
    assert speaker_of("univnet", "1089_134686_000007_000005") == "1089"
    assert speaker_of("nsf", "bdl_arctic_b0474") == "bdl"
    assert speaker_of("pwg", "BASIC5000_0001") == "BASIC"
    assert speaker_of("pwg-gt", "009902") == speaker_of("pwg", "009903")
    assert speaker_of("tortoise", "train_kennard") == "train_kennard"
    with pytest.raises(ValueError, match="names no speaker"):
        speaker_of("nsf", "0001")


def test_no_speaker_is_on_both_sides(utterances: list[Utterance]) -> None:
    for seed in range(5):
        train, held = hold_out(utterances, 0.3, seed)
        assert len(train) + len(held) == len(utterances)
        assert not {item.speaker for item in train} & {item.speaker for item in held}
        for source in ("librispeech", "univnet", "univnet-gt", "tortoise"):
            assert any(item.source == source for item in train)
            assert any(item.source == source for item in held)


def test_packs_are_read_by_the_table(tmp_path: Path) -> None:
    silence = np.zeros(RATE, np.float32)
    rows = [("speech/real/librispeech/a.flac", "train", "real", "17-1-0")]
    rows += [("speech/fake/tortoise/b.flac", "train", "fake", "tom")]
    for path, *_ in rows:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / path, np.concatenate([silence, voice(0), silence]), RATE)
    lines = ["path\tsplit\tkind\tlabel\tgroup"]
    lines += [f"{path}\t{split}\tspeech\t{label}\t{group}" for path, split, label, group in rows]
    lines += ["faces/x.jpg\ttrain\tface\treal\tx", "speech/z.flac\tdev\tspeech\treal\tz"]
    (tmp_path / "SOURCES.tsv").write_text("\n".join(lines) + "\n")
    real, fake = load_speech(tmp_path)
    assert (real.label, real.speaker, real.source) == (0, "17", "librispeech")
    assert (fake.label, fake.speaker, fake.source) == (1, "tom", "tortoise")
    # The second of silence at each end is gone, the voice is not.
    assert 1.2 * RATE < len(real.samples) < 2.3 * RATE

    soundfile.write(tmp_path / rows[0][0], voice(0), 8_000)
    with pytest.raises(ValueError, match=r"a\.flac.*8000"):
        load_speech(tmp_path)


def test_cuts_are_of_one_length_and_place() -> None:
    ramp = np.arange(80_000, dtype=np.float32)
    for seed in range(20):
        first, second = cut_alike(ramp, 2 * ramp[:40_000], np.random.default_rng(seed))
        assert 24_000 <= len(first) == len(second) <= 40_000
    first, second = cut_alike(ramp, ramp, np.random.default_rng(3))
    np.testing.assert_array_equal(first, second)


def test_a_batch_is_drawn_by_its_number_alone(utterances: list[Utterance]) -> None:
    one = PairBatches(utterances, pairs=4, steps=9, seed=1)
    again = PairBatches(utterances, pairs=4, steps=9, seed=1)
    first, second = one[5], again[5]
    assert first["sound"].shape == (8, 64_000)
    assert first["label"].tolist() == [0.0] * 4 + [1.0] * 4
    assert (first["sound"] == second["sound"]).all()
    assert not (first["sound"] == one[6]["sound"]).all()


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


def test_shortcuts_do_not_tell_real_from_fake_in_a_batch(utterances: list[Utterance]) -> None:
    sounds = PairBatches(utterances, pairs=24, steps=1)[0]["sound"].numpy()
    features = np.array([shortcuts(sound) for sound in sounds])
    loops, level = features[:, FEATURES.index("loop")], features[:, FEATURES.index("peak")]
    # Within each pair: looped after the same time, and of the same peak before the codec.
    np.testing.assert_allclose(loops[:24], loops[24:])
    assert np.median(np.abs(level[:24] - level[24:])) < 1.0


def test_trials_cover_every_utterance_and_add_resyntheses(utterances: list[Utterance]) -> None:
    trials = make_trials(utterances, fakes_each=2)
    assert len(trials) == len(utterances) + 2 * 9
    pseudo = [trial for trial in trials if trial.source.startswith("pseudo-")]
    assert len({trial.source for trial in pseudo}) == 5
    assert all(trial.label == 1 for trial in pseudo)
    assert all(trial.clean.shape == trial.travelled.shape == (64_000,) for trial in trials)
