"""Finding faces: the right box, in the common convention, at any size; nobody where nobody is."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from avfake.bundle import Bundle
from avfake.faces import DlibFinder, YuNetFinder, find_near, load_finder, overlap
from avfake.types import AvfakeError
from tests.clips import FACE_IN_PORTRAIT, portrait, texture


@pytest.fixture(scope="module")
def finder() -> DlibFinder:
    return DlibFinder()


def scene(
    scale: float, at: tuple[int, int] = (300, 10), size: tuple[int, int] = (720, 1280)
) -> tuple[np.ndarray, np.ndarray]:
    """The portrait, `scale` times as large, in a picture without other faces; the face's box."""
    picture = texture(*size, seed=1)
    head = cv2.resize(portrait(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    x, y = at
    head = head[: size[0] - y, : size[1] - x]
    picture[y : y + head.shape[0], x : x + head.shape[1]] = head
    return picture, FACE_IN_PORTRAIT * scale + [x, y, x, y]


@pytest.mark.parametrize(("scale", "least"), [(0.6, 0.55), (1.0, 0.75), (1.6, 0.75), (2.3, 0.75)])
def test_dlib_finds_the_face_at_many_sizes(finder: DlibFinder, scale: float, least: float) -> None:
    picture, truth = scene(scale)
    (face,) = finder.find(picture)
    assert overlap(face.box, truth) > least
    assert 0.5 < face.score <= 1.0


def test_dlibs_boxes_follow_the_common_convention(finder: DlibFinder) -> None:
    """Centre and sides agree with YuNet's, on average over sizes and both mirror images."""
    errors = []
    for scale in (0.8, 1.0, 1.3, 1.7):
        for mirrored in (False, True):
            picture, truth = scene(scale)
            if mirrored:
                picture = np.ascontiguousarray(picture[:, ::-1])
                truth = np.array([1280 - truth[2], truth[1], 1280 - truth[0], truth[3]])
            (face,) = finder.find(picture)
            errors.append((face.box - truth) / (truth[3] - truth[1]))
    left, top, right, bottom = np.mean(errors, axis=0)
    assert abs(left + right) / 2 < 0.06
    assert abs(top + bottom) / 2 < 0.06
    assert abs(right - left) < 0.12
    assert abs(bottom - top) < 0.12


def test_a_small_face_in_a_tall_phone_picture_is_found(finder: DlibFinder) -> None:
    """At 640 px it is 34 px wide, which HOG misses; the larger sizes are there for it."""
    picture, truth = scene(0.75, at=(250, 400), size=(1280, 720))
    assert DlibFinder(sides=(640,)).find(picture) == []
    (face,) = finder.find(picture)
    assert overlap(face.box, truth) > 0.7


def test_a_face_cut_off_by_the_edge_is_found(finder: DlibFinder) -> None:
    picture = portrait()[70:]  # the forehead is out of the picture
    (face,) = finder.find(picture)
    assert overlap(face.box, FACE_IN_PORTRAIT - [0, 70, 0, 70]) > 0.6


@pytest.mark.parametrize("seed", range(3))
def test_nobody_is_found_where_nobody_is(finder: DlibFinder, seed: int) -> None:
    assert finder.find(texture(480, 640, seed)) == []


@pytest.mark.parametrize("scale", [0.3, 0.7, 1.0, 2.0])
def test_a_search_nearby_finds_what_a_whole_search_finds(finder: DlibFinder, scale: float) -> None:
    picture, truth = scene(scale)
    near = find_near(finder, picture, truth + 0.08 * (truth[2] - truth[0]))
    assert near is not None
    assert overlap(near.box, truth) > 0.75
    whole = finder.find(picture)
    if whole:  # the smallest face is seen only nearby
        assert overlap(near.box, whole[0].box) > 0.7


def test_a_search_nearby_answers_none_without_a_face(finder: DlibFinder) -> None:
    picture, truth = scene(1.0)
    width = truth[2] - truth[0]
    assert find_near(finder, picture, truth + 3 * width) is None
    assert find_near(finder, texture(480, 640), np.array([100.0, 100.0, 200.0, 200.0])) is None
    assert find_near(finder, picture, np.array([-90.0, -90.0, -10.0, -10.0])) is None


def test_a_search_nearby_takes_the_face_that_the_box_is_about(finder: DlibFinder) -> None:
    picture, left = scene(1.0, at=(100, 50))
    picture[50:350, 230:530] = portrait()
    right = FACE_IN_PORTRAIT + np.array([230, 50, 230, 50])
    seen = find_near(finder, picture, right)
    assert seen is not None
    assert overlap(seen.box, right) > 0.7
    assert overlap(seen.box, left) < 0.1


def test_overlap_by_hand() -> None:
    box = np.array([0.0, 0.0, 10.0, 10.0])
    assert overlap(box, box) == 1.0
    assert overlap(box, box + np.array([5, 0, 5, 0])) == pytest.approx(50 / 150)
    assert overlap(box, box + 10) == 0.0
    assert overlap(box, np.array([2.0, 2.0, 4.0, 4.0])) == pytest.approx(0.04)


def test_yunet_agrees_with_the_box_and_gives_points() -> None:
    """Needs the model file: it is not part of avfake."""
    model = yunet_model()
    picture, truth = scene(1.2)
    (face,) = YuNetFinder(model).find(picture)
    assert overlap(face.box, truth) > 0.85
    assert face.points is not None
    right_eye, left_eye, nose, right_mouth, left_mouth = face.points
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_mouth[0] < left_mouth[0]
    assert right_eye[1] < nose[1] < right_mouth[1]
    near = find_near(YuNetFinder(model), picture, truth + 10)
    assert near is not None
    assert near.points is not None
    assert np.abs(near.points - face.points).max() < 8


def yunet_model() -> Path:
    path = os.environ.get("AVFAKE_YUNET")
    if path is None:
        pytest.skip("AVFAKE_YUNET does not name a YuNet ONNX file")
    return Path(path)


def test_finders_by_name() -> None:
    assert load_finder().name == "dlib"
    assert load_finder("dlib").name == "dlib"
    with pytest.raises(AvfakeError, match=r"nobody\.onnx") as caught:
        load_finder("nobody.onnx")
    assert caught.value.reason == "no_face_model"


def test_a_file_that_is_no_face_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("not a model")
    with pytest.raises(AvfakeError, match=r"text\.onnx") as caught:
        load_finder(str(path))
    assert caught.value.reason == "bad_face_model"


def test_a_model_of_another_kind_is_no_face_model(bundle: Bundle) -> None:
    """A good ONNX file, but not YuNet: refused at once rather than when the first face comes."""
    fusion = bundle.folder / "fusion.onnx"
    with pytest.raises(AvfakeError, match=r"fusion\.onnx") as caught:
        load_finder(str(fusion))
    assert caught.value.reason == "bad_face_model"
