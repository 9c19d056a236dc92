"""Finding faces: the right box, in the common convention, at any size; nobody where nobody is."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from avfake.bundle import Bundle
from avfake.faces import (
    BundledFinder,
    DlibFinder,
    FaceFinder,
    find_near,
    load_finder,
    overlap,
    pick,
)
from avfake.types import AvfakeError
from tests.clips import FACE_IN_PORTRAIT, portrait, texture


@pytest.fixture(scope="module")
def finder() -> DlibFinder:
    return DlibFinder()


@pytest.fixture(scope="module")
def own(bundle: Bundle) -> BundledFinder:
    """The finder of the bundle that ships."""
    return BundledFinder.of(bundle)


@pytest.fixture(params=["dlib", "bundled"])
def either(request: pytest.FixtureRequest, finder: DlibFinder, own: BundledFinder) -> FaceFinder:
    return {"dlib": finder, "bundled": own}[request.param]


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


@pytest.mark.parametrize(("scale", "least"), [(0.6, 0.65), (1.0, 0.75), (1.6, 0.75), (2.3, 0.75)])
def test_the_bundles_finder_finds_the_face_at_many_sizes(
    own: BundledFinder, scale: float, least: float
) -> None:
    for mirrored in (False, True):
        picture, truth = scene(scale)
        if mirrored:
            picture = np.ascontiguousarray(picture[:, ::-1])
            truth = np.array([1280 - truth[2], truth[1], 1280 - truth[0], truth[3]])
        (face,) = own.find(picture)
        assert overlap(face.box, truth) > least
        assert 0.3 < face.score <= 1.0


def test_the_bundles_finder_gives_points_where_they_belong(own: BundledFinder) -> None:
    picture, truth = scene(1.5)
    (face,) = own.find(picture)
    assert face.points is not None
    shares = (face.points - truth[:2]) / (truth[2:] - truth[:2])
    # Right eye, left eye, nose, right and left corner of the mouth, of a face looking ahead.
    expected = [[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.78], [0.68, 0.78]]
    assert np.abs(shares - expected).max() < 0.15


@pytest.mark.parametrize("degrees", [-30, -15, 15, 30])
def test_the_bundles_finder_sees_a_rolled_head(own: BundledFinder, degrees: float) -> None:
    picture, truth = scene(1.5)
    middle = (truth[:2] + truth[2:]) / 2
    turn = cv2.getRotationMatrix2D(tuple(map(float, middle)), degrees, 1.0)
    (face,) = own.find(cv2.warpAffine(picture, turn, (1280, 720)))
    assert np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - middle) < 0.2 * (truth[2] - truth[0])


def test_the_bundles_finder_sees_in_the_dark_and_in_grey(own: BundledFinder) -> None:
    picture, truth = scene(1.2)
    grey = np.repeat(picture.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    for seen in (picture // 5, grey):
        (face,) = own.find(seen)
        assert overlap(face.box, truth) > 0.75


def test_two_faces_are_two(own: BundledFinder) -> None:
    picture, one = scene(1.0, at=(100, 50))
    picture[50:350, 400:700] = portrait()
    found = own.find(picture)
    assert len(found) == 2
    assert found[0].score >= found[1].score
    for truth in (one, FACE_IN_PORTRAIT + np.array([400, 50, 400, 50])):
        assert max(overlap(face.box, truth) for face in found) > 0.75


@pytest.mark.parametrize("shape", [(33, 40), (300, 17), (31, 1000)])
def test_pictures_of_odd_sizes_are_searched(own: BundledFinder, shape: tuple[int, int]) -> None:
    assert own.find(texture(*shape)) == []
    assert own.find_as_is(texture(*shape)) == []


def test_a_face_cut_off_by_the_edge_is_found(either: FaceFinder) -> None:
    picture = portrait()[70:]  # the forehead is out of the picture
    (face,) = either.find(picture)
    assert overlap(face.box, FACE_IN_PORTRAIT - [0, 70, 0, 70]) > 0.6


@pytest.mark.parametrize("seed", range(3))
def test_nobody_is_found_where_nobody_is(either: FaceFinder, seed: int) -> None:
    assert either.find(texture(480, 640, seed)) == []


@pytest.mark.parametrize("scale", [0.3, 0.7, 1.0, 2.0])
def test_a_search_nearby_finds_what_a_whole_search_finds(either: FaceFinder, scale: float) -> None:
    picture, truth = scene(scale)
    near = find_near(either, picture, truth + 0.08 * (truth[2] - truth[0]))
    assert near is not None
    assert overlap(near.box, truth) > 0.75
    whole = either.find(picture)
    if whole and scale > 0.5:  # the smallest face is seen well only nearby
        assert overlap(near.box, whole[0].box) > 0.7


def test_a_search_nearby_answers_none_without_a_face(either: FaceFinder) -> None:
    picture, truth = scene(1.0)
    width = truth[2] - truth[0]
    assert find_near(either, picture, truth + 3 * width) is None
    assert find_near(either, texture(480, 640), np.array([100.0, 100.0, 200.0, 200.0])) is None
    assert find_near(either, picture, np.array([-90.0, -90.0, -10.0, -10.0])) is None


def test_a_search_nearby_takes_the_face_that_the_box_is_about(either: FaceFinder) -> None:
    picture, left = scene(1.0, at=(100, 50))
    picture[50:350, 230:530] = portrait()
    right = FACE_IN_PORTRAIT + np.array([230, 50, 230, 50])
    seen = find_near(either, picture, right)
    assert seen is not None
    assert overlap(seen.box, right) > 0.7
    assert overlap(seen.box, left) < 0.1


def test_overlap_by_hand() -> None:
    box = np.array([0.0, 0.0, 10.0, 10.0])
    assert overlap(box, box) == 1.0
    assert overlap(box, box + np.array([5, 0, 5, 0])) == pytest.approx(50 / 150)
    assert overlap(box, box + 10) == 0.0
    assert overlap(box, np.array([2.0, 2.0, 4.0, 4.0])) == pytest.approx(0.04)


def test_of_answers_about_one_face_the_best_is_picked() -> None:
    """By hand: two faces, three answers about the first, one of them too faint to count; and one
    that overlaps it by a third, which is dropped without a say.
    """
    places = np.zeros((5, 14), np.float32)
    places[:, :4] = [
        [0, 0, 10, 10],
        [1, 0, 11, 10],
        [50, 0, 60, 10],
        [0, 1, 10, 11],
        [5, 0, 15, 10],
    ]
    places[:, 4:] = np.arange(5)[:, None]
    score = np.array([0.7, 0.9, 0.6, 0.2, 0.5])
    found = pick(score, places, 0.4)
    assert [face.score for face in found] == pytest.approx([0.9, 0.6])
    share = 0.7**2 / (0.7**2 + 0.9**2)  # of the answer one pixel to the left
    assert found[0].box.tolist() == pytest.approx([1 - share, 0, 11 - share, 10])
    assert found[0].points is not None
    assert found[0].points.flatten().tolist() == pytest.approx([1 - share] * 10)
    # Side by side, overlapping by less than 0.3 (IoU), are two faces.
    apart = np.array([[0, 0, 10, 10], [7, 0, 17, 10]], np.float32)
    both = np.concatenate([apart, np.zeros((2, 10), np.float32)], 1)
    assert len(pick(np.array([0.9, 0.8]), both, 0.4)) == 2
    assert pick(np.zeros(5), places, 0.4) == []


def test_finders_by_name() -> None:
    assert load_finder().name == "bundled"
    assert load_finder("dlib").name == "dlib"
    with pytest.raises(AvfakeError, match=r"nobody\.onnx") as caught:
        load_finder("nobody.onnx")
    assert caught.value.reason == "no_face_model"


def test_a_bundle_without_a_finder_leaves_it_to_dlib(bundle: Bundle) -> None:
    graphs = {name: entry for name, entry in bundle.manifest["graphs"].items() if name != "finder"}
    poorer = replace(bundle, manifest=bundle.manifest | {"graphs": graphs})
    assert load_finder(bundle=poorer).name == "dlib"
    assert load_finder("dlib", bundle).name == "dlib"
