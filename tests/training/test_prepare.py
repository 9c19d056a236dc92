"""Packs and data sets become face pictures and tracks whose boxes, times, sound and labels fit."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from avfake.faces import DlibFinder, overlap  # noqa: E402
from avfake.media import Clip  # noqa: E402
from avfake.types import SAMPLE_RATE  # noqa: E402
from tests.clips import (  # noqa: E402
    beeps,
    grey_frames,
    moving_portrait,
    portrait,
    texture,
    write_clip,
)
from tests.training.voices import voice  # noqa: E402
from training.cut import SAMPLES_PER_PICTURE, TRACK_SIZE  # noqa: E402
from training.datasets import dfdc, folder, packs  # noqa: E402
from training.manifest import DatasetError, load, open_prepared  # noqa: E402
from training.prepare import (  # noqa: E402
    FACE_COLUMNS,
    main,
    picture_label,
    prepare,
)
from training.shards import read_picture, read_track  # noqa: E402

HEADER = "path\tsplit\tkind\tlabel\tgroup\tsource\tlicence\tbytes"


def write_packs(root: Path) -> None:
    """A talking clip, a portrait as JPEG and as PNG, a wall, a voice, a broken file."""
    for name in ("talking/pack", "faces/pack", "dev/faces", "speech/pack"):
        (root / name).mkdir(parents=True)
    frames, _ = moving_portrait(75, 25)
    levels = np.linspace(0.0, 1.0, 75)[:, None, None, None]
    frames[:, -40:, :40] = (255 * levels).astype(np.uint8)  # time, drawn in a corner
    write_clip(root / "talking/pack/one.mp4", frames, sound=beeps(3.0, [0.52, 2.0]))
    bgr = cv2.cvtColor(portrait(), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(root / "faces/pack/same.jpg"), bgr)
    cv2.imwrite(str(root / "faces/pack/same.png"), np.ascontiguousarray(bgr[:, ::-1]))
    cv2.imwrite(str(root / "dev/faces/wall.png"), texture(200, 200))
    write_clip(root / "talking/pack/grey.mp4", grey_frames([90] * 30))
    (root / "talking/pack/broken.mp4").write_text("no clip")
    (root / "speech/pack/voice.wav").touch()
    (root / "SOURCES.tsv").write_text(
        "\n".join(
            [
                HEADER,
                "talking/pack/one.mp4\ttrain\tclip\treal\tanna\t\t\t1",
                "faces/pack/same.jpg\ttrain\tface\treal\tanna\t\t\t1",
                "faces/pack/same.png\ttrain\tface\treal\tberta\t\t\t1",
                "dev/faces/wall.png\tdev\tface\tfake\tNA\t\t\t1",
                "talking/pack/grey.mp4\ttrain\tclip\treal\tcarla\t\t\t1",
                "talking/pack/broken.mp4\ttrain\tclip\treal\tdora\t\t\t1",
                "speech/pack/voice.wav\ttrain\tspeech\tfake\temma\t\t\t1",
            ]
        )
        + "\n"
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packs")
    write_packs(root)
    return root


@pytest.fixture(scope="module")
def prepared(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    arguments = ["--data", str(root), "--out", str(out), "--workers", "2"]
    assert main([*arguments, "--face-model", "dlib"]) == 0
    return out


def test_what_was_skipped_says_why(prepared: Path) -> None:
    skipped = pd.read_csv(prepared / "skipped.csv").set_index("path")["why"].to_dict()
    assert skipped == {
        "dev/faces/wall.png": "no_face",
        "talking/pack/grey.mp4": "no_face",
        "talking/pack/broken.mp4": "not_media",
    }


def test_face_pictures_hold_the_face_where_the_row_says(prepared: Path) -> None:
    finder = DlibFinder(sides=(400,))
    rows = pd.read_csv(prepared / "faces.csv")
    assert list(rows.columns) == FACE_COLUMNS
    assert set(rows["clip"]) == {
        "talking/pack/one.mp4",
        "faces/pack/same.jpg",
        "faces/pack/same.png",
    }
    for row in rows.itertuples():
        picture = read_picture(prepared, row.path)
        assert max(picture.shape) <= 320
        box = np.array([row.left, row.top, row.right, row.bottom])
        seen = finder.find(picture)
        assert max(overlap(face.box, box) for face in seen) > 0.6, row.path


def test_a_clip_gives_about_two_faces_a_second_at_their_times(prepared: Path) -> None:
    rows = pd.read_csv(prepared / "faces.csv")
    rows = rows[rows["clip"] == "talking/pack/one.mp4"]
    assert 4 <= len(rows) <= 8
    assert (np.diff(rows["time"].to_numpy()) > 0.2).all()
    assert set(rows["group"]) == {"anna"}
    assert set(rows["source"]) == {"talking/pack"}


def test_pictures_of_one_name_and_two_endings_are_two_pictures(prepared: Path) -> None:
    rows = pd.read_csv(prepared / "faces.csv").set_index("clip")
    jpg, png = (rows.loc[f"faces/pack/same.{ending}"] for ending in ("jpg", "png"))
    assert jpg["path"] != png["path"]
    stored, mirrored = (read_picture(prepared, row["path"]) for row in (jpg, png))
    assert stored.shape != mirrored.shape or (stored != mirrored).mean() > 0.5


def test_a_track_is_the_face_at_25_pictures_a_second_with_its_sound(
    root: Path, prepared: Path
) -> None:
    (row,) = pd.read_csv(prepared / "tracks.csv").itertuples()
    of_the_clip = (row.clip, row.group, row.split, row.label)
    assert of_the_clip == ("talking/pack/one.mp4", "anna", "train", 0)
    assert row.start == 0.0
    faces, sound = read_track(prepared, row.path)
    assert faces.shape == (row.frames, TRACK_SIZE, TRACK_SIZE)
    assert faces.dtype == np.uint8
    assert sound.shape == (row.frames * SAMPLES_PER_PICTURE,)
    assert sound.dtype == np.float32
    assert row.frames >= 71
    first = np.argmax(np.abs(sound) > 0.25) / SAMPLE_RATE
    assert first == pytest.approx(0.52, abs=0.01)
    # The face stays in the middle: a crop looks like the next, though the face glides about.
    steps = np.abs(np.diff(faces[:, 36:108, 36:108].astype(int), axis=0)).mean((1, 2))
    assert np.median(steps) < 6
    assert faces.std() > 20
    with Clip(root / row.clip) as clip:
        whole = clip.sound()
    assert whole is not None
    assert sound == pytest.approx(whole.between(row.start, row.start + row.frames / 25))


def test_a_second_run_does_nothing(root: Path, prepared: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in prepared.glob("*/*")}
    tables = {path: path.read_bytes() for path in prepared.glob("*.csv")}
    prepare(packs.prepare(root), prepared, "dlib", loose=True)
    assert {path: path.stat().st_mtime_ns for path in prepared.glob("*/*")} == before
    assert {path: path.read_bytes() for path in prepared.glob("*.csv")} == tables


def test_new_packs_are_added_to_what_is_there(root: Path, prepared: Path, tmp_path: Path) -> None:
    grown = tmp_path / "packs"
    out = tmp_path / "out"
    grown.mkdir()
    for name in ("talking", "faces", "dev", "speech"):
        (grown / name).symlink_to(root / name)
    lines = (root / "SOURCES.tsv").read_text().splitlines()
    (grown / "SOURCES.tsv").write_text("\n".join(lines[:3]) + "\n")
    prepare(packs.prepare(grown), out, "dlib", loose=True)
    assert pd.read_csv(out / "faces.csv")["clip"].nunique() == 2
    (grown / "SOURCES.tsv").write_text("\n".join(lines) + "\n")
    prepare(packs.prepare(grown), out, "dlib", loose=True)
    for name in ("faces.csv", "tracks.csv", "skipped.csv"):
        assert (out / name).read_text() == (prepared / name).read_text()


# Data sets: shards.


def write_own(root: Path, portraits: int = 6) -> None:
    """Portraits of two brightnesses, real and fake, two clips, a missing and a broken file."""
    root.mkdir()
    lines = ["path,label,label_visual,segments"]
    for index in range(portraits):
        picture = cv2.convertScaleAbs(portrait(), alpha=0.8 + 0.05 * index)
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(root / f"{index}.jpg"), bgr)
        lines.append(f"{index}.jpg,{index % 2},{index % 2},")
    frames, _ = moving_portrait(60, 25)
    write_clip(root / "real.mp4", frames, sound=voice(1, 2.4))
    write_clip(root / "fake.mp4", frames, sound=voice(1, 2.4))
    (root / "broken.mp4").write_text("no clip")
    lines += ["real.mp4,0,,", 'fake.mp4,1,1,"[[1.0, 1.7]]"', "broken.mp4,0,,", "gone.mp4,1,1,"]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets") / "own"
    write_own(root)
    return root


@pytest.fixture(scope="module")
def sharded(own: Path) -> Path:
    out = own.parent / "whole"
    run_prepare(own, out).wait(timeout=120)
    return out


def run_prepare(root: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    """`python -m training.prepare --dataset folder` in batches of two clips."""
    code = (
        "import functools, sys\n"
        "from training import prepare\n"
        "if __name__ == '__main__':\n"
        "    prepare.run = functools.partial(prepare.run, batch=2)\n"
        "    sys.exit(prepare.main(sys.argv[1:]))"
    )
    script = out.parent / "run.py"  # workers import the main module, which `-c` has not
    script.write_text(code)
    command = [sys.executable, str(script), "--dataset", "folder", str(root), str(out)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command += ["--workers", "2", "--face-model", "dlib", *more]
    return subprocess.Popen(command, env=environment)


def test_shards_hold_what_the_index_says(own: Path, sharded: Path) -> None:
    rows = pd.read_csv(sharded / "faces.csv")
    manifest = load(sharded / "manifest.csv").set_index("path")
    assert len(manifest) == 9
    assert {f"{index}.jpg" for index in range(6)} < set(rows["clip"])
    for row in rows.itertuples():
        assert row.split == manifest.loc[row.clip, "split"]
        picture = read_picture(sharded, row.path)
        assert row.bottom <= picture.shape[0] + 1
        shard, offset, size = row.path.split(":")
        with tarfile.open(sharded / shard) as tar:
            member = tar.getmember(row.member)
        assert (member.offset_data, member.size) == (int(offset), int(size))
    tracks = pd.read_csv(sharded / "tracks.csv")
    assert set(tracks["clip"]) == {"real.mp4", "fake.mp4"}
    for row in tracks.itertuples():
        faces, sound = read_track(sharded, row.path)
        assert (len(faces), len(sound)) == (row.frames, row.frames * SAMPLES_PER_PICTURE)


def test_pictures_of_a_fake_are_fake_only_within_its_forged_seconds(sharded: Path) -> None:
    rows = pd.read_csv(sharded / "faces.csv")
    fake = rows[rows["clip"] == "fake.mp4"]
    inside = fake["time"].between(1.0, 1.7)
    assert inside.any()
    assert (fake["label"] == 1).all()
    assert inside.all()  # beside them the label is unknown
    assert (rows["label"][rows["clip"] == "real.mp4"] == 0).all()
    assert not rows["label"].isna().any()
    assert [picture_label(1.0, "[[1.0, 1.7]]", time) for time in (1.0, 1.7)] == [1.0, 1.0]
    assert np.isnan(picture_label(1.0, "[[1.0, 1.7]]", 1.8))
    assert picture_label(1.0, "[]", 1.8) == 1.0
    assert picture_label(0.0, "[[1.0, 1.7]]", 1.2) == 0.0


def test_the_visual_recipe_reads_shards(sharded: Path) -> None:
    pytest.importorskip("torch")
    from training.visual_data import Faces

    faces = Faces.load(sharded)
    picture, box, _ = faces.read(0)
    assert picture.dtype == np.uint8
    assert box[2] <= picture.shape[1]


def test_missing_and_broken_files_are_told(sharded: Path) -> None:
    skipped = pd.read_csv(sharded / "skipped.csv").set_index("path")["why"].to_dict()
    assert skipped == {"gone.mp4": "not_found", "broken.mp4": "not_media"}


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(
    own: Path, sharded: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    finished = 0
    for pause in (0.0, 0.1, 0.2, 0.3):
        process = run_prepare(own, out)
        # Into the work, not only into the imports: until there is a record more, then a while.
        while len(list(out.glob("batches/*.json"))) == finished and process.poll() is None:
            time.sleep(0.02)
        time.sleep(pause)
        process.kill()
        process.wait()
        finished = len(list(out.glob("batches/*.json")))
    assert run_prepare(own, out).wait(timeout=120) == 0

    assert content(out) == content(sharded)


def content(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_a_cluster_prepares_the_same_bytes(own: Path, sharded: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    out = tmp_path / "ray"
    assert run_prepare(own, out, "--engine", "ray").wait(timeout=300) == 0
    assert content(out) == content(sharded)


def test_fakes_with_an_original_are_compared_with_it(tmp_path: Path) -> None:
    part = tmp_path / "root/dfdc_train_part_0"
    part.mkdir(parents=True)
    frames, boxes = moving_portrait(50, 25)
    sound = voice(1, 2.0)
    write_clip(part / "real.mp4", frames, sound=sound)
    face = frames.copy()
    for frame, box in zip(face, boxes.astype(int), strict=True):
        inside = frame[box[1] : box[3], box[0] : box[2]]
        inside[:] = cv2.convertScaleAbs(inside[:, ::-1], alpha=1.1)
    write_clip(part / "face.mp4", face, sound=sound)
    write_clip(part / "voice.mp4", frames, sound=voice(2, 2.0))
    write_clip(part / "orphan.mp4", face, sound=sound)
    fakes = {"face.mp4": "real.mp4", "voice.mp4": "real.mp4", "orphan.mp4": "gone.mp4"}
    facts = {name: {"label": "FAKE", "original": real} for name, real in fakes.items()}
    facts |= {"real.mp4": {"label": "REAL"}, "gone.mp4": {"label": "REAL"}}
    (part / "metadata.json").write_text(json.dumps(facts))
    out = tmp_path / "out"
    prepare(dfdc.prepare(part.parent), out, "dlib")
    table = load(out / "manifest.csv")
    table.index = table["path"].str.removeprefix("dfdc_train_part_0/")
    found = table[["label_visual", "label_audio"]].astype(object).where(table.notna(), None)
    assert found.loc["face.mp4"].tolist() == [1, 0]
    assert found.loc["voice.mp4"].tolist() == [0, 1]
    assert found.loc["orphan.mp4"].tolist() == [None, None]
    assert table.loc["orphan.mp4", "compared"] == "no_original"
    assert table.loc["face.mp4", "picture_difference"] > 3
    assert table.loc["voice.mp4", "sound_difference_db"] > -1
    # A face of a clip whose sound alone was exchanged is a real face.
    rows = pd.read_csv(out / "faces.csv").groupby("clip")["label"].agg(lambda values: set(values))
    assert rows["dfdc_train_part_0/voice.mp4"] == {0.0}
    assert rows["dfdc_train_part_0/face.mp4"] == {1.0}


def test_sound_needs_a_manifest_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("real/a.wav", "fake/a.wav"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).touch()
    prepare(folder.prepare(tmp_path / "root"), tmp_path / "out")
    assert "2 files of sound" in capsys.readouterr().out
    manifest = open_prepared(tmp_path / "out")
    assert all((manifest.root / path).is_file() for path in manifest.table["path"])
    assert sorted(manifest.table["label_audio"]) == [0, 1]
    with pytest.raises(DatasetError, match=r"has no dataset.json"):
        open_prepared(tmp_path)
    assert not (tmp_path / "out/faces.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dataset", "dfdc", "ROOT", "OUT"], "holds no DFDC part"),
        (["--dataset", "celebdf", "ROOT/none", "OUT"], "expected Celeb-real"),
        (["--data", "ROOT", "--out", "OUT"], "expected a file SOURCES.tsv"),
        (["--dataset", "folder", "OWN", "OUT", "--face-model", "none.onnx"], "none.onnx"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    own: Path,
    tmp_path: Path,
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"ROOT": str(tmp_path), "OWN": str(own), "OUT": str(tmp_path / "out")}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [[], ["--dataset", "dfdc", "ROOT"], ["--data", "x"], ["--dataset", "none", "a", "b"]],
)
def test_wrong_usage_is_told(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_one_folder_does_not_hold_two_sets(
    sharded: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(root), "--out", str(sharded), "--face-model", "dlib"]
    assert main(arguments) == 2
    assert "holds what was prepared with dataset folder, not packs" in capsys.readouterr().err
