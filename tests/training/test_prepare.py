"""Packs become face pictures and face tracks whose boxes, times and sound still fit."""

from __future__ import annotations

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
from training.prepare import (  # noqa: E402
    SAMPLES_PER_PICTURE,
    TRACK_SIZE,
    prepare,
    read_sources,
)

HEADER = "path\tsplit\tkind\tlabel\tgroup\tsource\tlicence\tbytes"


def write_packs(root: Path) -> None:
    """A talking clip, a portrait as JPEG and as PNG, a wall, a voice, a broken file."""
    for folder in ("talking/pack", "faces/pack", "dev/faces", "speech/pack"):
        (root / folder).mkdir(parents=True)
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
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packs")
    write_packs(root)
    return root


@pytest.fixture(scope="module")
def finder() -> DlibFinder:
    return DlibFinder(sides=(640,))


@pytest.fixture(scope="module")
def prepared(packs: Path, finder: DlibFinder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    prepare(packs, out, finder)
    return out


def test_sources_are_read_as_they_stand(packs: Path) -> None:
    items = read_sources(packs)
    assert [item.group for item in items] == [
        "anna",
        "anna",
        "berta",
        "NA",
        "carla",
        "dora",
        "emma",
    ]
    assert [item.label for item in items] == [0, 0, 0, 1, 0, 0, 1]
    assert items[0].source == "talking/pack"
    assert items[3].split == "dev"


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
    assert set(rows["clip"]) == {
        "talking/pack/one.mp4",
        "faces/pack/same.jpg",
        "faces/pack/same.png",
    }
    for row in rows.itertuples():
        picture = cv2.cvtColor(cv2.imread(str(prepared / row.path)), cv2.COLOR_BGR2RGB)
        assert max(picture.shape) <= 320
        box = np.array([row.left, row.top, row.right, row.bottom])
        seen = finder.find(picture)
        assert max(overlap(face.box, box) for face in seen) > 0.6, row.path


def test_a_clip_gives_about_two_faces_a_second_at_their_times(prepared: Path) -> None:
    rows = pd.read_csv(prepared / "faces.csv")
    times = rows[rows["clip"] == "talking/pack/one.mp4"]["time"].to_numpy()
    assert 4 <= len(times) <= 8
    assert (np.diff(times) > 0.2).all()
    assert set(rows[rows["clip"] == "talking/pack/one.mp4"]["group"]) == {"anna"}


def test_pictures_of_one_name_and_two_endings_are_two_pictures(prepared: Path, packs: Path) -> None:
    rows = pd.read_csv(prepared / "faces.csv").set_index("clip")
    jpg, png = (rows.loc[f"faces/pack/same.{ending}"] for ending in ("jpg", "png"))
    assert jpg["path"] != png["path"]
    stored, mirrored = (cv2.imread(str(prepared / row["path"])) for row in (jpg, png))
    assert stored.shape != mirrored.shape or (stored != mirrored).mean() > 0.5


def test_a_track_is_the_face_at_25_pictures_a_second_with_its_sound(prepared: Path) -> None:
    (row,) = pd.read_csv(prepared / "tracks.csv").itertuples()
    assert (row.clip, row.group, row.split, row.label) == (
        "talking/pack/one.mp4",
        "anna",
        "train",
        0,
    )
    assert row.start == 0.0
    with np.load(prepared / row.path) as track:
        faces, sound = track["faces"], track["sound"]
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


def test_a_second_run_does_nothing(packs: Path, prepared: Path, finder: DlibFinder) -> None:
    before = {path: path.read_bytes() for path in prepared.glob("*.csv")}
    prepare(packs, prepared, finder)
    assert {path: path.read_bytes() for path in prepared.glob("*.csv")} == before


class _Stops(DlibFinder):
    """Ends the run at its n-th whole search."""

    def __init__(self, after: int) -> None:
        super().__init__(sides=(640,))
        self.left = after

    def find(self, picture: np.ndarray) -> list:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().find(picture)


@pytest.mark.parametrize("after", [1, 3])
def test_a_stopped_run_goes_on_to_the_same_tables(
    packs: Path, prepared: Path, finder: DlibFinder, tmp_path: Path, after: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepare(packs, tmp_path, _Stops(after))
    prepare(packs, tmp_path, finder)
    for name in ("faces.csv", "tracks.csv", "skipped.csv"):
        assert (tmp_path / name).read_text() == (prepared / name).read_text()


def test_a_run_killed_between_table_and_mark_does_not_double_rows(
    packs: Path, finder: DlibFinder, tmp_path: Path
) -> None:
    """Rows are written, then the item is marked as done: a kill may fall between the two."""
    from training.prepare import Tables

    with pytest.MonkeyPatch.context() as patch:

        def killed(self: Tables, item: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(Tables, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(packs, tmp_path, finder)
    prepare(packs, tmp_path, finder)
    rows = pd.read_csv(tmp_path / "faces.csv")
    assert not rows[rows["clip"] == "talking/pack/one.mp4"]["path"].duplicated().any()
    assert len(pd.read_csv(tmp_path / "tracks.csv")) == 1


def test_the_sound_of_a_track_is_the_clips(packs: Path, prepared: Path) -> None:
    (row,) = pd.read_csv(prepared / "tracks.csv").itertuples()
    with Clip(packs / row.clip) as clip:
        sound = clip.sound()
    assert sound is not None
    with np.load(prepared / row.path) as track:
        expected = sound.between(row.start, row.start + row.frames / 25)
        assert track["sound"] == pytest.approx(expected[: len(track["sound"])])
