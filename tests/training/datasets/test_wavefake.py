"""WaveFake: a recording goes with everything that vocoders made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.datasets.trees import labels, rows, touch
from training.datasets.wavefake import prepare
from training.manifest import DatasetError


def test_copies_of_a_recording_stay_with_it(tmp_path: Path) -> None:
    for book in range(1, 21):
        name = f"LJ{book:03d}-0217"
        touch(tmp_path, f"generated_audio/ljspeech_melgan/{name}_gen.wav")
        touch(tmp_path, f"generated_audio/ljspeech_hifiGAN/{name}_generated.wav")
        touch(tmp_path, f"generated_audio/ljspeech_waveglow/{name}.wav")
        touch(tmp_path, f"LJSpeech-1.1/wavs/{name}.wav")
    touch(tmp_path, "generated_audio/jsut_parallel_wavegan/BASIC5000_0001_gen.wav")
    touch(tmp_path, "jsut_ver1.1/basic5000/wav/BASIC5000_0001.wav")
    spoken = "common_voices_prompts_from_conformer_fastspeech2_pwg_ljspeech/gen_0.wav"
    touch(tmp_path, f"generated_audio/{spoken}")
    manifest = prepare(tmp_path)
    made = rows(manifest)
    assert len(made) == 83
    fake = made["generated_audio/ljspeech_melgan/LJ008-0217_gen.wav"]
    assert labels(fake) == (1, None, 1, None)
    assert (fake["group"], fake["method"]) == ("LJ008", "ljspeech_melgan")
    assert labels(made["LJSpeech-1.1/wavs/LJ008-0217.wav"]) == (0, None, 0, None)
    assert made["jsut_ver1.1/basic5000/wav/BASIC5000_0001.wav"]["group"] == "BASIC5000_0001"
    assert (manifest.table.groupby("group")["split"].nunique() == 1).all()
    assert set(manifest.table["split"]) == {"train", "val", "test"}
    assert not manifest.notes


def test_the_folders_may_lie_in_root_and_missing_speech_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "ljspeech_melgan/LJ001-0001_gen.wav")
    (note,) = prepare(tmp_path).notes
    assert "no real speech" in note


def test_other_folders_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected generated_audio"):
        prepare(tmp_path)
