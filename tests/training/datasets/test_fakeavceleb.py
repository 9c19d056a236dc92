"""FakeAVCeleb: the odd header of meta_data.csv, four kinds of clip, people all round."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.datasets.trees import labels, rows, write
from training.datasets.fakeavceleb import prepare
from training.manifest import DatasetError

HEADER = "source,target1,target2,method,category,type,race,gender,path,"


def line(source: str, one: str, two: str, method: str, category: str, kind: str, name: str) -> str:
    folder = f"FakeAVCeleb/{kind}/African/men/{source}"
    return f"{source},{one},{two},{method},{category},{kind},African,men,{name},{folder}"


def test_labels_follow_type_and_method(tmp_path: Path) -> None:
    real, voice = "RealVideo-RealAudio", "RealVideo-FakeAudio"
    face, both = "FakeVideo-RealAudio", "FakeVideo-FakeAudio"
    lines = [
        HEADER,
        line("id00076", "-", "-", "real", "A", real, "00109.mp4"),
        line("id00076", "-", "-", "rtvc", "B", voice, "00109_fake.mp4"),
        line("id00076", "id04727", "AAnyugIAXao", "faceswap", "C", face, "00109_id04727_AA.mp4"),
        line("id00076", "4", "-", "wav2lip", "C", face, "00109_4.mp4"),
        line("id00076", "id00476", "10", "wav2lip", "D", both, "00109_10_id00476_wavtolip.mp4"),
        # The release has files that are listed twice, under two methods.
        line(
            "id00076", "id00476", "10", "fsgan-wav2lip", "D", both, "00109_10_id00476_wavtolip.mp4"
        ),
    ]
    write(tmp_path, "meta_data.csv", lines)
    manifest = prepare(tmp_path)
    made = rows(manifest)
    assert len(made) == 5
    where = "African/men/id00076"
    assert labels(made[f"{real}/{where}/00109.mp4"]) == (0, 0, 0, 0)
    assert made[f"{real}/{where}/00109.mp4"]["method"] == ""
    assert labels(made[f"{voice}/{where}/00109_fake.mp4"]) == (1, 0, 1, 1)
    swapped = made[f"{face}/{where}/00109_id04727_AA.mp4"]
    assert labels(swapped) == (1, 1, 0, 0)
    assert (swapped["people"], swapped["group"]) == ("id00076 id04727", "id00076")
    assert labels(made[f"{face}/{where}/00109_4.mp4"]) == (1, 1, 0, 1)
    spoken = made[f"{both}/{where}/00109_10_id00476_wavtolip.mp4"]
    assert labels(spoken) == (1, 1, 1, 1)
    assert spoken["method"] == "wav2lip"
    assert any("listed twice" in note for note in manifest.notes)


def test_people_are_split_and_pairs_across_put_aside(tmp_path: Path) -> None:
    people = [f"id{number:05d}" for number in range(20)]
    lines = [HEADER]
    for one in people:
        lines.append(line(one, "-", "-", "real", "A", "RealVideo-RealAudio", "1.mp4"))
        for two in people:
            if one != two:
                kind, name = "FakeVideo-RealAudio", f"1_{two}_x.mp4"
                lines.append(line(one, two, "-", "faceswap", "C", kind, name))
    write(tmp_path, "meta_data.csv", lines)
    table = prepare(tmp_path).table
    assert set(table["split"]) == {"train", "val", "test", "aside"}
    assert 0 < (table["split"] == "aside").mean() < 0.5
    assert (table["split"][table["label"] == 0] != "aside").all()


def test_other_folders_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected meta_data.csv"):
        prepare(tmp_path)
    write(tmp_path, "meta_data.csv", ["source,path", "id00076,00109.mp4"])
    with pytest.raises(DatasetError, match=r"needs the columns source, target1"):
        prepare(tmp_path)
    write(
        tmp_path, "meta_data.csv", [HEADER, line("id00076", "-", "-", "real", "A", "Real", "1.mp4")]
    )
    with pytest.raises(DatasetError, match=r"'Real' is no type"):
        prepare(tmp_path)
