"""The finder's recipe: scenes without end, targets that are the teacher's, counts done by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from avfake.faces import YuNetFinder, overlap, pick  # noqa: E402
from avfake.models.finder import places  # noqa: E402
from avfake.types import Detection  # noqa: E402
from tests.clips import FACE_IN_PORTRAIT, portrait, texture, write_clip  # noqa: E402
from training.finder import PRECISION, compare, look, loss, lowest_threshold, train  # noqa: E402
from training.finder_data import (  # noqa: E402
    SIZES,
    Album,
    Scenes,
    Teacher,
    gather,
    is_held_out,
    scene,
)
from training.loop import Schedule  # noqa: E402
from training.manifest import HELD_OUT, hashed  # noqa: E402


class Sighted:
    """Finds the portrait's face in any picture, wherever it may be: a finder for packs of it."""

    name = "sighted"

    def find(self, picture: np.ndarray) -> list[Detection]:
        return [Detection(FACE_IN_PORTRAIT.astype(np.float32), 0.9)]

    def find_as_is(self, picture: np.ndarray) -> list[Detection]:
        return self.find(picture)


class Bright(Teacher):
    """Takes the brightest block of 32 pixels for a face as large as it: a teacher without a net."""

    def __init__(self) -> None:
        self.asked = 0

    def answer(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.asked += len(pictures)
        count, height, width, _ = pictures.shape
        score = np.zeros((count, places(height, width)), np.float32)
        where = np.zeros((count, places(height, width), 14), np.float32)
        rows, columns = height // 32, width // 32
        first = places(height, width) - rows * columns
        for number, picture in enumerate(pictures):
            blocks = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA).sum(2)
            y, x = np.unravel_index(int(np.argmax(blocks)), blocks.shape)
            box = np.array([x, y, x + 1, y + 1]) * 32
            index = first + y * columns + x
            score[number, index] = 0.9
            where[number, index] = [*box, *(box[:2] + 16).tolist() * 5]
        return score, where


def groups(count: int, aside: bool) -> list[str]:
    """Names of people who are (not) held out."""
    names = (f"person-{number}" for number in range(10_000))
    return [n for n in names if (hashed(n, HELD_OUT) == 0) == aside][:count]


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stills and a clip, of people trained on, held out and of the dev split."""
    root = tmp_path_factory.mktemp("packs")
    learnt, other = groups(3, aside=False), groups(1, aside=True)
    rows = [
        ("faces/a/one.jpg", "train", "face", learnt[0]),
        ("faces/a/two.jpg", "train", "face", other[0]),
        ("talking/b/clip.mp4", "train", "talking", learnt[1]),
        ("dev/c/three.jpg", "dev", "face", learnt[2]),
    ]
    for number, (path, *_) in enumerate(rows):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".jpg"):
            cv2.imwrite(str(root / path), portrait()[..., ::-1] // (number + 1))
        else:
            write_clip(root / path, [portrait()] * 20)
    lines = ["\t".join(("path", "split", "kind", "label", "group"))]
    lines += ["\t".join((path, split, kind, "real", group)) for path, split, kind, group in rows]
    (root / "SOURCES.tsv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def pictures(packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finder") / "pictures"
    gather(packs, out, Sighted())
    return out


@pytest.fixture(scope="module")
def album(pictures: Path) -> Album:
    return Album.of(pictures, pd.read_csv(pictures / "pictures.csv"))


def test_stills_and_frames_are_gathered_with_their_faces_once(
    packs: Path, pictures: Path, tmp_path: Path
) -> None:
    table = gather(packs, pictures, Sighted())
    assert table["dataset"].value_counts().to_dict() == {"faces/a": 2, "talking/b": 4, "dev/c": 1}
    assert all((pictures / path).is_file() for path in table["path"])
    faces = np.array(json.loads(table["faces"][0]))
    assert faces[0, :4] == pytest.approx(FACE_IN_PORTRAIT)
    before = (pictures / "pictures.csv").stat().st_mtime_ns
    gather(packs, pictures, Sighted())
    assert (pictures / "pictures.csv").stat().st_mtime_ns == before


def test_people_held_out_and_dev_are_aside(pictures: Path) -> None:
    table = pd.read_csv(pictures / "pictures.csv")
    aside = table["clip"][is_held_out(table)]
    assert sorted(aside) == ["dev/c/three.jpg", "faces/a/two.jpg"]


@pytest.mark.parametrize("size", SIZES)
def test_scenes_differ_but_each_is_always_the_same(album: Album, size: int) -> None:
    seen = [scene(album, size, np.random.default_rng(seed)) for seed in (1, 2, 1)]
    assert all(s.shape == (size, size, 3) and s.dtype == np.uint8 for s in seen)
    assert np.array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0], seen[1])


def test_no_scene_fails_and_few_are_blank(album: Album) -> None:
    scenes = [scene(album, 256, np.random.default_rng([7, seed])) for seed in range(80)]
    blank = sum(float(picture.std()) < 4 for picture in scenes)
    assert blank < 20


def test_a_batch_is_what_the_teacher_says_of_its_own_pictures(album: Album) -> None:
    teacher = Bright()
    scenes = Scenes(album, teacher)
    given, score, where = scenes[3]
    assert teacher.asked == len(given) == SIZES[given.shape[1]]
    again = teacher.answer(given.numpy())
    assert np.array_equal(score.numpy(), again[0])
    assert np.array_equal(where.numpy(), again[1])
    assert torch.equal(scenes[3][0], given)
    assert not torch.equal(scenes[4][0].float().mean(), given.float().mean())


class Answers(nn.Module):
    """Says the same of any pictures."""

    def __init__(self, logit: Tensor, where: Tensor) -> None:
        super().__init__()
        self.logit, self.where = logit, where

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        return self.logit, self.where


def one_face(side: float = 40.0) -> tuple[Tensor, Tensor]:
    """A teacher's (score, places) with one sure face among four places."""
    score = torch.tensor([[0.0, 0.9, 0.0, 0.0]])
    where = torch.zeros(1, 4, 14)
    where[0, 1, :4] = torch.tensor([10.0, 10.0, 10 + side, 10 + side])
    where[0, 1, 4:] = 30.0
    return score, where


def test_answering_as_the_teacher_costs_nothing() -> None:
    score, where = one_face()
    model = Answers(torch.logit(score, eps=1e-6), where)
    assert float(loss(model, (torch.zeros(0), score, where))) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("fault", ["missed", "made up", "box", "points"])
def test_every_fault_costs(fault: str) -> None:
    score, where = one_face()
    logit, found = torch.logit(score, eps=1e-6), where.clone()
    if fault == "missed":
        logit[0, 1] = -3
    elif fault == "made up":
        logit[0, 3] = 3
    elif fault == "box":
        found[0, 1, :4] += 6
    else:
        found[0, 1, 4:] += 6
    assert float(loss(Answers(logit, found), (torch.zeros(0), score, where))) > 0.05


def test_where_there_is_no_face_boxes_do_not_matter() -> None:
    score, where = one_face()
    found = where.clone()
    found[0, 2] = 500.0
    model = Answers(torch.logit(score, eps=1e-6), found)
    assert float(loss(model, (torch.zeros(0), score, where))) == pytest.approx(0, abs=1e-4)


def test_tiny_faces_are_neither_asked_for_nor_forbidden() -> None:
    score, where = one_face(side=8)
    for say in (-5.0, 5.0):
        logit = torch.logit(score, eps=1e-6)
        logit[0, 1] = say
        assert float(loss(Answers(logit, where), (torch.zeros(0), score, where))) < 1e-4


def face(left: float, score: float, side: float = 50.0) -> Detection:
    return Detection(np.array([left, 0, left + side, side], np.float32), score)


def test_finds_are_counted_by_hand() -> None:
    teacher = [[face(0, 0.9), face(200, 0.6), face(400, 0.9, side=20)], [face(0, 0.85)], []]
    found = [[face(5, 0.7), face(205, 0.7)], [face(300, 0.7), face(0, 0.3)], [face(9, 0.6, 10)]]
    counted = compare(found, teacher, threshold=0.5)
    assert (counted.wanted, counted.met) == (2, 1), "the small face is not asked for"
    assert (counted.finds, counted.wrong) == (3, 1), "a find where the teacher doubts is right"
    assert counted.recall == 0.5
    assert counted.precision == pytest.approx(2 / 3)
    assert compare(found, teacher, threshold=0.2).met == 2


def test_the_threshold_is_the_lowest_that_is_precise_enough() -> None:
    teacher = [[face(0, 0.9)] for _ in range(200)]
    found = [[face(0, 0.8)] for _ in range(200)]
    for index in range(40):
        found[index].append(face(300, 0.3 + index / 100))
    threshold = lowest_threshold(found, teacher)
    assert compare(found, teacher, threshold).precision >= PRECISION
    assert compare(found, teacher, threshold - 0.02).precision < PRECISION


def test_two_steps_give_weights_a_threshold_and_figures(packs: Path, tmp_path: Path) -> None:
    schedule = Schedule(2, evaluate_every=1, workers=0)
    metrics = train(packs, Sighted(), Bright(), tmp_path, schedule)
    assert (tmp_path / "best.safetensors").is_file()
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert 0.2 <= metrics["threshold"] <= 0.9
    assert metrics["side"] == 640
    assert metrics["held out"]["pictures"] == metrics["dev"]["pictures"] == 1


def yunet_model() -> Path:
    path = os.environ.get("AVFAKE_YUNET")
    if path is None:
        pytest.skip("AVFAKE_YUNET does not name a YuNet ONNX file")
    return Path(path)


def test_the_teacher_read_place_by_place_is_yunet(pictures: Path) -> None:
    """Needs the model file: it is not part of avfake."""
    model = yunet_model()
    picture = texture(480, 640)
    picture[100:400, 200:500] = portrait()
    score, where = Teacher(model).answer(picture[None])
    assert score.shape == (1, places(480, 640))
    (mine,) = pick(score[0], where[0], 0.6)
    (theirs,) = YuNetFinder(model).find(picture)
    assert mine.score == pytest.approx(theirs.score, abs=0.01)
    assert overlap(mine.box, theirs.box) > 0.98
    assert mine.points is not None
    assert theirs.points is not None
    assert np.abs(mine.points - theirs.points).max() < 1


def test_looking_scales_as_inference_does(pictures: Path) -> None:
    table = pd.read_csv(pictures / "pictures.csv")[:1]

    class Corner(nn.Module):
        def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
            assert given.shape == (1, 608, 608, 3), "300 px twice as large, in steps of 32"
            logit = torch.full((1, places(608, 608)), -9.0)
            logit[0, 0] = 2
            return logit, torch.ones(1, places(608, 608), 14)

    found, theirs = look(Corner(), Bright(), pictures, table)
    assert [len(faces) for faces in found] == [1]
    assert [len(faces) for faces in theirs] == [1]
