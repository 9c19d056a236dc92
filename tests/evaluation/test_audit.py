"""Planted leaks are found, a clean set passes, and nothing is dropped in silence."""

from __future__ import annotations

import json
import shutil
import wave
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.audit import main
from evaluation.facts import Facts, container_of, read_all, read_facts, silences
from evaluation.media import Media
from evaluation.probe import FEATURES, separations
from tests.clips import beeps, grey_frames, remux, write_clip

SECONDS = 0.6


@pytest.fixture
def clean(tmp_path: Path) -> pd.DataFrame:
    """60 clips of 30 people (see `make`): enough for the probe."""
    return make(tmp_path, 60)


@pytest.fixture
def few(tmp_path: Path) -> pd.DataFrame:
    """16 clips of 8 people: too few for the probe, which takes its time."""
    return make(tmp_path, 16)


def make(folder: Path, clips: int) -> pd.DataFrame:
    """Short sounds, real and fake alike but for what is heard; the manifest of the files made.

    A person has one of both classes, and both are in one split.
    """
    rng = np.random.default_rng(0)
    rows = []
    for index in range(clips):
        person, label = index // 2, index % 2
        write_voice(folder / f"{index}.wav", rng)
        split = ("train", "val", "test")[person % 3]
        rows.append([f"{index}.wav", label, f"person{person}", split])
    return pd.DataFrame(rows, columns=["path", "label", "group", "split"])


def write_voice(path: Path, rng: np.random.Generator, lead: float = 0.0) -> None:
    """Noise of random length and loudness, after `lead` seconds of silence."""
    count = round(16_000 * (SECONDS + 0.2 * rng.random()))
    samples = rng.normal(0, 0.05 + 0.1 * rng.random(), count).clip(-1, 1)
    samples = np.concatenate([np.zeros(round(16_000 * lead)), samples])
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def run(tmp_path: Path, manifest: pd.DataFrame, *more: str) -> tuple[int, dict]:
    """(exit status, what --out says)."""
    manifest.to_csv(tmp_path / "manifest.csv", index=False)
    out = tmp_path / "audit.json"
    status = main(
        [str(tmp_path / "manifest.csv"), "--root", str(tmp_path), "--out", str(out), *more]
    )
    return status, json.loads(out.read_text())


def test_a_clean_set_passes(
    tmp_path: Path, clean: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = run(tmp_path, clean)
    assert status == 0, found["leaks"]
    assert found["clean"] is True
    assert found["labels"]["label"] == {"real": 30, "fake": 30, "unknown": 0}
    assert found["labels"]["label_visual"]["unknown"] == 60
    everything = found["separations"]["label"][0]
    assert everything["facts"] == "all"
    assert 0.2 < everything["auc"] < 0.7
    assert everything["low"] < 0.5
    assert "no leak was found." in capsys.readouterr().out


def test_silence_before_fakes_is_a_leak(
    tmp_path: Path, clean: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    for path in clean["path"][clean["label"] == 1]:
        write_voice(tmp_path / path, rng, lead=0.1)
    clean["label_audio"] = clean["label"]
    status, found = run(tmp_path, clean)
    assert status == 1
    by_name = {row["facts"]: row for row in found["separations"]["label_audio"]}
    assert by_name["lead"]["auc"] > 0.95
    assert by_name["loudness"]["auc"] < 0.75
    assert any("Metadata tells label" in leak for leak in found["leaks"])
    assert "this data set leaks" in capsys.readouterr().out
    allowed, _ = run(tmp_path, clean.drop(columns="label_audio"), "--above", "1")
    assert allowed == 0


def test_somebody_in_two_splits_is_a_leak(tmp_path: Path, few: pd.DataFrame) -> None:
    few.loc[0, "split"] = "test"  # person0 is in train with the other clip
    status, found = run(tmp_path, few)
    assert status == 1
    (leak,) = found["identities"]
    assert (leak["name"], leak["clips"]) == ("person0", {"train": 1, "test": 1})


def test_people_are_compared_where_the_manifest_names_them(
    tmp_path: Path, few: pd.DataFrame
) -> None:
    few["people"] = few["group"]
    few.loc[0, "people"] = "person0 donor"  # train
    few.loc[2, "people"] = "person1 donor"  # val
    status, found = run(tmp_path, few)
    assert status == 1
    assert [(e["kind"], e["name"]) for e in found["identities"]] == [("person", "donor")]


def test_splits_to_compare_are_a_choice(tmp_path: Path, few: pd.DataFrame) -> None:
    few.loc[0, "split"] = "dev"
    status, found = run(tmp_path, few)
    assert status == 0
    assert any("dev" in note for note in found["notes"])
    status, _ = run(tmp_path, few, "--splits", "train,val,test,dev")
    assert status == 1


def test_the_same_file_across_splits_is_a_leak(tmp_path: Path, few: pd.DataFrame) -> None:
    shutil.copy(tmp_path / "0.wav", tmp_path / "2.wav")  # both real, train and val
    shutil.copy(tmp_path / "1.wav", tmp_path / "7.wav")  # both fake and train
    status, found = run(tmp_path, few)
    assert status == 1
    assert {tuple(e["paths"]): e["leaks"] for e in found["duplicates"]} == {
        ("0.wav", "2.wav"): True,
        ("1.wav", "7.wav"): False,
    }
    assert not found["conflicts"]
    assert found["leaks"] == ["1 file is in more than one split."]


def test_the_same_file_with_two_labels_is_a_conflict(tmp_path: Path, few: pd.DataFrame) -> None:
    shutil.copy(tmp_path / "0.wav", tmp_path / "1.wav")  # one person's, real and fake
    status, found = run(tmp_path, few)
    assert status == 1
    assert {tuple(entry["paths"]) for entry in found["conflicts"]} == {("0.wav", "1.wav")}
    assert any("differ in label" in entry["what"] for entry in found["conflicts"])


def test_a_label_that_its_modalities_contradict_is_a_conflict(
    tmp_path: Path, few: pd.DataFrame
) -> None:
    few = few.assign(label_visual=0, label_audio=few["label"].astype(object))
    few["label_lipsync"] = pd.Series([""] * 16, dtype=object)
    few.loc[0, "label_audio"] = 1  # of a real clip
    few.loc[1, "label_audio"] = 0  # of a fake: now nothing in it is forged ...
    few.loc[3, "label_audio"] = 0
    few.loc[3, "label_lipsync"] = 1  # ... but here the match of both is
    few.loc[5, "label_audio"] = ""  # unknown: may be what is forged
    status, found = run(tmp_path, few)
    assert status == 1
    assert [entry["paths"] for entry in found["conflicts"]] == [["0.wav"], ["1.wav"]]


def test_files_that_cannot_be_read_are_counted_with_their_reasons(
    tmp_path: Path, few: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "0.wav").unlink()
    (tmp_path / "1.wav").write_bytes(b"")
    (tmp_path / "2.wav").write_text("no sound at all")
    status, found = run(tmp_path, few)
    assert status == 0
    assert {entry["path"]: entry["reason"] for entry in found["unread"]} == {
        "0.wav": "not_found",
        "1.wav": "empty_file",
        "2.wav": "not_media",
    }
    assert found["clips"] == 16
    printed = capsys.readouterr().out
    assert "16 clips, 3 of them not readable" in printed
    assert "0.wav: not_found" in printed


def test_rows_can_be_chosen(tmp_path: Path, few: pd.DataFrame) -> None:
    _, found = run(tmp_path, few, "--where", "split=val")
    assert found["clips"] == (few["split"] == "val").sum() == 6


def test_too_few_clips_are_no_measurement(
    tmp_path: Path, few: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = run(tmp_path, few)
    assert status == 0
    assert found["separations"]["label"] == []
    assert any("was not measured" in note for note in found["notes"])
    assert "as far as could be looked" in capsys.readouterr().out


def test_a_data_set_of_one_class_is_noted(tmp_path: Path, few: pd.DataFrame) -> None:
    few["dataset"] = np.where(few["label"] == 1, "lab", "street")
    _, found = run(tmp_path, few)
    assert any("hold one class only: lab, street" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["none.csv", "--root", "."], "no table"),
        (["manifest.csv", "--root", "nowhere"], "no folder"),
        (["manifest.csv", "--root", ".", "--out", "empty"], "is a folder"),
        (["manifest.csv", "--root", ".", "--out", "manifest.csv/a.json"], "cannot be written"),
        (["manifest.csv", "--root", ".", "--above", "60"], "--above"),
        (["manifest.csv", "--root", ".", "--workers", "0"], "--workers"),
        (["manifest.csv", "--root", "empty"], "none of the 16 files"),
        (["manifest.csv", "--root", ".", "--where", "kind=x"], "no column 'kind'"),
        (
            ["manifest.csv", "--root", ".", "--where", "split=x"],
            "No clip of the manifest",
        ),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(
    tmp_path: Path,
    few: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    word: str,
) -> None:
    few.to_csv(tmp_path / "manifest.csv", index=False)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert word in capsys.readouterr().err


def test_facts_of_a_clip(tmp_path: Path) -> None:
    sound = np.zeros(32_000, np.float32)
    sound[8_000:24_000] = 0.1 * np.sin(np.arange(16_000))
    write_clip(tmp_path / "a.mp4", grey_frames(range(60, 110)), fps=25, sound=sound)
    facts = read_facts(Media(tmp_path), "a.mp4")
    assert facts.reason is None
    assert (facts.width, facts.height, facts.fps) == (64, 64, 25.0)
    assert (facts.video_codec, facts.audio_codec, facts.sample_rate) == ("h264", "aac", 16_000)
    assert facts.container == "mp4/isom"
    assert facts.duration == pytest.approx(2.0, abs=0.1)
    assert facts.lead == pytest.approx(0.5, abs=0.07)  # AAC spreads it by a block of 64 ms
    assert facts.trail == pytest.approx(0.5, abs=0.1)
    assert facts.loudness == pytest.approx(20 * np.log10(0.1 / np.sqrt(2)), abs=1)
    assert facts.bit_rate == pytest.approx(facts.bytes * 8 / facts.duration)


def test_silences() -> None:
    lead, trail, loudness = silences(np.zeros(16_000, np.float32))
    assert (lead, trail, loudness) == (1.0, 1.0, -100.0)
    assert silences(np.zeros(0, np.float32)) == (0.0, 0.0, -100.0)
    lead, trail, _ = silences(beeps(2.0, [0.5], length=1.0))
    assert (lead, trail) == (0.5, 0.5)


def test_containers() -> None:
    assert container_of(b"\0\0\0\x20ftypM4V \0\0\0\0") == "mp4/M4V"
    assert container_of(b"RIFF\0\0\0\0AVI LIST") == "avi"
    assert container_of(b"") == "other"


def test_another_container_is_the_same_clip_and_another_film_is_not(tmp_path: Path) -> None:
    sound = beeps(2.0, [0.3, 1.1])
    write_clip(tmp_path / "a.mp4", grey_frames([80] * 50), fps=25, sound=sound)
    remux(tmp_path / "a.mp4", tmp_path / "b.mov")
    # The same sound and first picture, forged later on.
    write_clip(tmp_path / "c.mp4", grey_frames([80] * 20 + [160] * 30), fps=25, sound=sound)
    manifest = pd.DataFrame(
        {
            "path": ["a.mp4", "b.mov", "c.mp4"],
            "label": [0, 0, 1],
            "split": ["train", "test", "train"],
        }
    )
    status, found = run(tmp_path, manifest)
    assert status == 1
    (entry,) = found["duplicates"]
    assert (entry["kind"], entry["paths"]) == ("content", ["a.mp4", "b.mov"])
    assert not found["conflicts"]
    assert any("names no groups" in note for note in found["notes"])


def test_facts_are_kept_and_read_again_where_a_file_changed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a.wav", "b.wav"):
        write_voice(tmp_path / name, rng)
    kept = tmp_path / "facts.jsonl"
    first = read_all(Media(tmp_path), ["a.wav", "b.wav"], kept, workers=2)
    with kept.open("a") as file:
        file.write('{"format": 1, "path": "b.w')  # a kill
    assert read_all(Media(tmp_path), ["b.wav", "a.wav"], kept, workers=1) == first[::-1]
    assert len(kept.read_text().splitlines()) == 2
    write_voice(tmp_path / "b.wav", rng, lead=0.3)
    again = read_all(Media(tmp_path), ["a.wav", "b.wav"], kept, workers=1)
    assert again[0] == first[0]
    assert again[1].lead == pytest.approx(0.3)
    lines = kept.read_text().splitlines()
    assert len(lines) == 3
    assert read_all(Media(tmp_path), ["a.wav", "b.wav"], kept, workers=1) == again
    assert kept.read_text().splitlines() == lines


def test_a_zip_is_audited_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    labels = {"a.wav": "REAL", "b.wav": "FAKE", "twin.wav": "REAL"}
    for name in ("a.wav", "b.wav"):
        write_voice(tmp_path / name, rng)
    archive = tmp_path / "train_sample_videos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        entries = {name: {"label": label} for name, label in labels.items()}
        file.writestr("videos/metadata.json", json.dumps(entries))
        for name in labels:
            file.write(tmp_path / name.replace("twin", "b"), f"videos/{name}")
    out = tmp_path / "audit.json"
    for _ in range(2):  # the second run takes the facts from the first
        assert main([str(archive), "--out", str(out)]) == 1
        (entry,) = json.loads(out.read_text())["duplicates"]
        assert entry["paths"] == ["videos/b.wav", "videos/twin.wav"]
        assert len(out.with_suffix(".facts.jsonl").read_text().splitlines()) == 3
    assert "label conflict" in capsys.readouterr().out


def probe_table(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    blank = Facts("a").__dict__
    table = pd.DataFrame([{name: blank[name] for name in FEATURES} for _ in range(rows)])
    table["duration"] = rng.uniform(1, 10, rows)
    table["audio_codec"] = rng.choice(["aac", "mp3"], rows)
    return table


def test_a_probe_reads_words_and_missing_numbers() -> None:
    table = probe_table(80)
    label = np.arange(80) % 2
    group = np.arange(80)
    table["video_codec"] = np.where(label == 1, "h264", None)
    rows = {(row.facts, row.model): row for row in separations(table, label, group, draws=100)}
    assert rows["video_codec", "trees"].auc == 1.0
    assert rows["all", "trees"].auc > 0.95
    assert rows["all", "logistic"].auc > 0.95
    assert rows["fps", "trees"].auc == 0.5  # known of none
    table["video_codec"] = None
    table["fps"] = np.where(label == 1, 25.0, np.nan)
    rows = {(row.facts, row.model): row for row in separations(table, label, group, draws=100)}
    assert rows["fps", "trees"].auc == 1.0
    assert rows["all", "logistic"].auc > 0.95


def test_people_are_not_learnt_by_heart() -> None:
    """Each person has one duration and one class: only somebody seen before could be told."""
    table, group = probe_table(120), np.arange(120) // 12
    label = group % 2
    table["duration"] = 1.0 + ((group * 7) % 10) + np.random.default_rng(0).uniform(0, 0.01, 120)
    table["audio_codec"] = "aac"
    row = separations(table, label, group, draws=100)[0]
    assert row.low < 0.6


def test_five_people_of_each_class_are_needed() -> None:
    table = probe_table(80)
    label = np.arange(80) % 2
    assert separations(table, label, np.where(label == 1, "one", np.arange(80).astype(str))) == []
