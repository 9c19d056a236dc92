"""Pseudo-fakes change the face, and nothing but the face."""

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from training.fakes.visual import (
    REGIONS,
    Face,
    distort,
    face_frame,
    match_colour,
    region_mask,
    self_blend,
    swap,
)

PICTURE = np.ascontiguousarray(astronaut()[:260, 90:350])
BOX = np.array([86.0, 65.0, 176.0, 190.0])
POINTS = np.array([[112.0, 112.0], [153.0, 110.0], [135.0, 135.0], [117.0, 156.0], [153.0, 155.0]])


def donor() -> Face:
    """Another face: the same, mirrored, greenish, smaller and elsewhere."""
    small = cv2.resize(PICTURE[:, ::-1], (200, 200), interpolation=cv2.INTER_AREA)
    points = (POINTS * [-1, 1] + [259, 0])[[1, 0, 2, 4, 3]] * 200 / 260
    box = (BOX[[2, 1, 0, 3]] * [-1, 1, -1, 1] + [259, 0, 259, 0]) * 200 / 260
    return Face((small * [0.6, 1.0, 0.6]).astype(np.uint8), box, points)


def away() -> np.ndarray:
    """Bool [H, W]: farther than 0.45 of the box's size from the box."""
    grown = BOX + 0.45 * np.array([-90, -125, 90, 125])
    y, x = np.mgrid[: PICTURE.shape[0], : PICTURE.shape[1]]
    return (x < grown[0]) | (x > grown[2]) | (y < grown[1]) | (y > grown[3])


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("points", [POINTS, None], ids=["points", "box"])
def test_a_self_blend_changes_the_face_and_only_the_face(
    region: str, points: np.ndarray | None
) -> None:
    before = PICTURE.copy()
    for seed in range(6):
        fake = self_blend(PICTURE, BOX, points, np.random.default_rng(seed), region)
        assert fake.shape == PICTURE.shape
        assert fake.dtype == np.uint8
        changed = np.abs(fake.astype(int) - PICTURE).max(2)
        assert not changed[away()].any()
        assert (changed > 2).sum() > 100
    assert np.array_equal(PICTURE, before)


def test_forgeries_are_repeatable_and_vary() -> None:
    fakes = [self_blend(PICTURE, BOX, POINTS, np.random.default_rng(s)) for s in (1, 1, 2, 3)]
    assert np.array_equal(fakes[0], fakes[1])
    assert not np.array_equal(fakes[1], fakes[2])
    assert not np.array_equal(fakes[2], fakes[3])


def test_a_weaker_forgery_changes_less() -> None:
    def change(strength: float) -> float:
        fakes = [
            self_blend(PICTURE, BOX, POINTS, np.random.default_rng(s), "face", strength)
            for s in range(20)
        ]
        return float(np.mean([cv2.absdiff(fake, PICTURE).mean() for fake in fakes]))

    assert change(0.2) < 0.7 * change(1.0)


def test_the_mouth_region_covers_the_mouth_and_spares_the_eyes() -> None:
    for seed in range(20):
        mask = region_mask(PICTURE.shape[:2], BOX, POINTS, np.random.default_rng(seed), "mouth")
        assert 0 <= mask.min() <= mask.max() <= 1
        x, y = POINTS[3:].mean(0).round().astype(int)
        assert mask[y, x] > 0.5
        assert max(mask[int(y), int(x)] for x, y in POINTS[:2]) < 0.05


def test_regions_turn_with_the_line_of_the_eyes() -> None:
    upright, turned = (face_frame(BOX, p) for p in (None, _rolled(POINTS, 20)))
    chin = turned @ [0, 1, 1] - turned @ [0, 0, 1]
    assert upright @ [0, 1, 1] == pytest.approx([131, 190])
    # A head rolled clockwise (as seen) by 20 degrees has its chin to the left.
    assert np.degrees(np.arctan2(-chin[0], chin[1])) == pytest.approx(20, abs=4)


@pytest.mark.parametrize("poisson", [False, True])
def test_a_swap_puts_the_donor_in_and_leaves_the_rest(poisson: bool) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        fake = swap(PICTURE, BOX, POINTS, rng, donor(), "inner", poisson=poisson)
        changed = np.abs(fake.astype(int) - PICTURE).max(2)
        assert not changed[away()].any()
        assert (changed > 4).sum() > 300


def test_a_swap_lays_eyes_on_eyes() -> None:
    marked = donor()
    picture = np.zeros_like(marked.picture)
    for x, y in marked.points:
        cv2.circle(picture, (round(x), round(y)), 3, (255, 255, 255), -1)
    # The most opaque of several draws: blending ratio 1, no colour to match.
    fakes = [
        swap(np.zeros_like(PICTURE), BOX, POINTS, np.random.default_rng(s), marked._replace(
            picture=picture), "face") for s in range(8)
    ]  # fmt: skip
    light = np.max([fake.mean(2) for fake in fakes], 0)
    for x, y in POINTS:
        around = light[int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7]
        assert around.max() > 60


def test_colour_matching_brings_the_means_together() -> None:
    mask = np.ones(PICTURE.shape[:2], np.float32)
    green = (PICTURE * [0.6, 1.0, 0.6]).astype(np.uint8)
    before, after = (
        np.abs(p.mean((0, 1)) - PICTURE.mean((0, 1))).max()
        for p in (green, match_colour(green, PICTURE, mask))
    )
    assert after < 0.3 * before


def test_a_distortion_changes_colour_or_sharpness_not_the_scene() -> None:
    for seed in range(20):
        changed = distort(PICTURE, np.random.default_rng(seed))
        assert not np.array_equal(changed, PICTURE)
        assert np.corrcoef(changed.mean(2).ravel(), PICTURE.mean(2).ravel())[0, 1] > 0.93


def _rolled(points: np.ndarray, degrees: float) -> np.ndarray:
    turn = np.radians(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = points.mean(0)
    return (points - middle) @ rotation.T + middle
