"""Packs, clips and twins end in one store; speakers do not cross."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("librosa")
soundfile = pytest.importorskip("soundfile")

from tests.training.utterances import some_speech  # noqa: E402
from tests.training.voices import RATE, voice  # noqa: E402
from training.datasets import folder  # noqa: E402
from training.prepare import prepare  # noqa: E402
from training.speech import (  # noqa: E402
    LONGEST,
    hold_out,
    read_packs,
    read_prepared,
    read_soundtracks,
    read_store,
    speaker_of,
    utterance,
    write_store,
)


def test_one_person_has_one_name_in_every_pack() -> None:
    assert speaker_of("librispeech", "1089-134691-0000") == "1089"
    assert speaker_of("univnet", "1089_134686_000007_000005") == "1089"
    assert speaker_of("nsf", "bdl_arctic_b0474") == "bdl"
    assert speaker_of("pwg", "BASIC5000_0001") == "BASIC"
    assert speaker_of("pwg-gt", "009902") == speaker_of("pwg", "009903")
    assert speaker_of("tortoise", "train_kennard") == "train_kennard"
    assert speaker_of("clip-grid", "bbaf2n.mpg") == "bbaf2n.mpg"
    with pytest.raises(ValueError, match="names no speaker"):
        speaker_of("nsf", "0001")


def test_no_speaker_is_on_both_sides_and_twins_go_with_their_originals() -> None:
    speech = some_speech()
    for seed in range(5):
        train, held = hold_out(speech, 0.3, seed)
        assert len(train) + len(held) == len(speech)
        assert not {item.speaker for item in train} & {item.speaker for item in held}
        paths = {item.path for item in held}
        assert all(item.original in paths for item in held if item.twin)
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
    real, fake = read_packs(tmp_path)
    assert (real.label, real.speaker, real.source) == (0, "17", "librispeech")
    assert (fake.label, fake.speaker, fake.source) == (1, "tom", "tortoise")
    # The second of silence at each end is gone, the voice is not.
    assert 1.2 * RATE < len(real.sound()) < 2.3 * RATE

    soundfile.write(tmp_path / rows[0][0], voice(0), 8_000)
    with pytest.raises(ValueError, match=r"a\.flac.*8000"):
        read_packs(tmp_path)


def test_soundtracks_of_real_clips_are_cut_up(tmp_path: Path) -> None:
    silence = np.zeros(4 * RATE, np.float32)
    lines = ["path\tsplit\tkind\tlabel\tgroup"]
    for name, sound, label in (
        ("long", voice(1, 8.0), "real"),
        ("mute", silence, "real"),
        ("made", voice(1, 3.0), "fake"),
    ):
        (tmp_path / "talking" / "web").mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / f"talking/web/{name}.wav", sound, RATE)
        lines.append(f"talking/web/{name}.wav\ttrain\ttalking\t{label}\t{name}")
    (tmp_path / "SOURCES.tsv").write_text("\n".join(lines) + "\n")
    found = read_soundtracks(tmp_path)
    assert [item.path for item in found] == ["talking/web/long.wav#0", "talking/web/long.wav#1"]
    assert {(item.source, item.speaker, item.label) for item in found} == {("clip-web", "long", 0)}
    assert len(found[0].sound()) == LONGEST


def test_a_twin_goes_through_the_codec_of_its_original() -> None:
    real = utterance("a", "17-1-0", "librispeech", 0, voice(1))
    again = utterance("b", "17-1-0", "librispeech", 1, voice(1), original="a")
    plain, coded = (real.sound(version) for version in (0, 1))
    np.testing.assert_allclose(plain, voice(1), atol=1e-4)
    assert plain.shape == coded.shape
    assert 0.5 < np.corrcoef(plain, coded)[0, 1] < 0.99999
    np.testing.assert_array_equal(again.versions[1], real.versions[1])
    assert again.twin
    assert not real.twin


def test_a_store_gives_back_what_it_was_given(tmp_path: Path) -> None:
    speech = some_speech()
    write_store(speech, tmp_path)
    for before, after in zip(speech, read_store(tmp_path), strict=True):
        for name in ("path", "group", "speaker", "source", "label", "original"):
            assert getattr(before, name) == getattr(after, name)
        for one, other in zip(before.versions, after.versions, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_folder_without_a_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"training\.voices"):
        read_store(tmp_path)


def test_the_speech_of_a_data_set_comes_from_its_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, prepared = tmp_path / "set", tmp_path / "prepared"
    root.mkdir()
    lines = ["path,label,label_audio,people,split"]
    for number, (label, split) in enumerate(
        [("real", "train"), ("fake", "train"), ("real", "val"), ("fake", "test"), ("real", "train")]
    ):
        seconds = 0.4 if number == 4 else 2.0
        soundfile.write(root / f"{number}.wav", voice(number, seconds), RATE)
        lines.append(f"{number}.wav,{label},{int(label == 'fake')},person{number},{split}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    (root / "broken.wav").write_bytes(b"not a sound")
    with (root / "labels.csv").open("a") as file:
        file.write("broken.wav,real,0,person9,train\n")
    made = folder.prepare(root)
    prepare(made, prepared)
    speech = list(read_prepared(prepared))
    assert [(item.path, item.label) for item in speech] == [
        ("0.wav", 0),
        ("1.wav", 1),
        ("2.wav", 0),
    ]
    assert len({item.speaker for item in speech}) == 3
    told = capsys.readouterr().out
    assert "1 too_short" in told
    assert write_store(speech, tmp_path / "store") == 3
    again = read_store(tmp_path / "store")
    assert [item.label for item in again] == [0, 1, 0]
    assert np.array_equal(again[0].sound(), speech[0].sound())
