"""The three ASVspoof releases: protocols, folders, published splits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.datasets.trees import labels, rows, touch, write
from training.datasets import asvspoof5, asvspoof2019, asvspoof2021
from training.manifest import DatasetError

CM = "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm"


@pytest.mark.parametrize("above", ["", "LA/"])
def test_2019_has_three_parts_of_other_speakers(tmp_path: Path, above: str) -> None:
    lines = ["LA_0079 LA_T_1138215 - - bonafide", "LA_0079 LA_T_1000137 - A01 spoof"]
    write(tmp_path, f"{above}{CM}.train.trn.txt", lines)
    write(tmp_path, f"{above}{CM}.dev.trl.txt", ["LA_0069 LA_D_1047731 - - bonafide"])
    write(tmp_path, f"{above}{CM}.eval.trl.txt", ["LA_0039 LA_E_2834763 - A11 spoof"])
    made = rows(asvspoof2019.prepare(tmp_path))
    spoof = made[f"{above}ASVspoof2019_LA_train/flac/LA_T_1000137.flac"]
    assert labels(spoof) == (1, None, 1, None)
    assert (spoof["group"], spoof["method"], spoof["split"]) == ("LA_0079", "A01", "train")
    assert labels(made[f"{above}ASVspoof2019_LA_dev/flac/LA_D_1047731.flac"]) == (0, None, 0, None)
    assert [row["split"] for row in made.values()] == ["train", "train", "val", "test"]


def test_2019_a_speaker_in_two_parts_is_an_error(tmp_path: Path) -> None:
    for part in ("train.trn", "dev.trl", "eval.trl"):
        name = part.split(".")[0]
        write(tmp_path, f"{CM}.{part}.txt", [f"LA_0079 LA_{name} - - bonafide"])
    with pytest.raises(DatasetError, match=r"LA_0079 is in train and in val"):
        asvspoof2019.prepare(tmp_path)


def test_2019_faults_are_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected ASVspoof2019_LA_cm_protocols"):
        asvspoof2019.prepare(tmp_path)
    write(tmp_path, f"{CM}.train.trn.txt", ["LA_0079 LA_T_1138215 - - genuine"])
    with pytest.raises(DatasetError, match=r"its key is 'genuine'"):
        asvspoof2019.prepare(tmp_path)
    write(tmp_path, f"{CM}.train.trn.txt", ["LA_0079 LA_T_1138215"])
    with pytest.raises(DatasetError, match=r"line 1: expected 5 words, found 2"):
        asvspoof2019.prepare(tmp_path)
    write(tmp_path, f"{CM}.train.trn.txt", ["LA_0079 LA_T_1138215 - - bonafide"])
    with pytest.raises(DatasetError, match=r"There is no protocol .*dev.trl.txt"):
        asvspoof2019.prepare(tmp_path)


def test_2021_is_all_test_with_its_phases(tmp_path: Path) -> None:
    la = [
        "LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval",
        "LA_0020 LA_E_6866159 g722 loc_tx bonafide bonafide notrim progress",
    ]
    df = ["LA_0043 DF_E_2000026 mp3m4a asvspoof A09 spoof notrim eval traditional_vocoder - - - -"]
    write(tmp_path, "LA-keys-full/keys/LA/CM/trial_metadata.txt", la)
    write(tmp_path, "keys/DF/CM/trial_metadata.txt", df)
    audio = "ASVspoof2021_LA_eval/flac/LA_E_9332881.flac"
    part = "ASVspoof2021_DF_eval_part02/ASVspoof2021_DF_eval/flac/DF_E_2000026.flac"
    touch(tmp_path, audio, part)
    manifest = asvspoof2021.prepare(tmp_path)
    made = rows(manifest)
    assert labels(made[audio]) == (1, None, 1, None)
    assert (made[audio]["codec"], made[audio]["phase"]) == ("alaw", "eval")
    assert (made[part]["track"], made[part]["method"]) == ("DF", "A09")
    bona = made["ASVspoof2021_LA_eval/flac/LA_E_6866159.flac"]
    assert (labels(bona), bona["method"], bona["phase"]) == ((0, None, 0, None), "", "progress")
    assert set(manifest.table["split"]) == {"test"}
    assert manifest.there().tolist() == [True, False, True]


def test_2021_without_keys_is_refused_in_one_sentence(tmp_path: Path) -> None:
    touch(tmp_path, "ASVspoof2021_LA_eval/flac/LA_E_9332881.flac")
    with pytest.raises(DatasetError, match=r"with its keys: expected"):
        asvspoof2021.prepare(tmp_path)


@pytest.mark.parametrize("folder", ["", "ASVspoof5_protocols/"])
def test_5_reads_words_not_tabs(tmp_path: Path, folder: str) -> None:
    train = [
        "T_4850 T_0000000000 F - - - AC3 A05 spoof -",
        "T_3734 T_0000000011 F - - - - bonafide bonafide -",
    ]
    write(tmp_path, f"{folder}ASVspoof5.train.tsv", train)
    evaluation = ["E_1607\tE_0009538969\tM\tC05\t3\t1\t-\tA20\tspoof\t-"]
    write(tmp_path, f"{folder}ASVspoof5.eval.track_1.tsv", evaluation)
    manifest = asvspoof5.prepare(tmp_path)
    made = rows(manifest)
    spoof = made["flac_T/T_0000000000.flac"]
    assert (labels(spoof), spoof["method"], spoof["group"]) == ((1, None, 1, None), "A05", "T_4850")
    assert labels(made["flac_T/T_0000000011.flac"]) == (0, None, 0, None)
    last = made["flac_E_eval/E_0009538969.flac"]
    assert (last["split"], last["codec"]) == ("test", "C05")
    assert manifest.notes == ("There is no ASVspoof5.dev.track_1.tsv: its part is left out.",)


def test_5_without_protocols_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected ASVspoof5.train.tsv"):
        asvspoof5.prepare(tmp_path)
