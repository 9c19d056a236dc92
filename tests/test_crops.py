"""Crops are exact: every output pixel shows the place that geometry says."""

from __future__ import annotations

import numpy as np
import pytest

from avfake.crops import FACE_SIDE, MOUTH_DROP, MOUTH_SIDE, box_size, cut, face_crop, mouth_crop

HEIGHT, WIDTH = 200, 250


def ramp() -> np.ndarray:
    """uint8 [200, 250, 3]: a pixel's column, its row, and nothing."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([columns, rows, np.zeros_like(rows)], -1).astype(np.uint8)


def places(middle: float, side: float, size: int, limit: int) -> np.ndarray:
    """The input pixel under the middle of each output pixel; the edge's where there is none."""
    return np.clip(middle + ((np.arange(size) + 0.5) / size - 0.5) * side - 0.5, 0, limit - 1)


@pytest.mark.parametrize(
    ("centre", "side", "size"),
    [
        ((125.0, 100.0), 80, 80),  # pixel for pixel
        ((125.3, 100.7), 80, 80),  # between pixels
        ((125.3, 100.7), 60, 160),  # enlarged
        ((125.3, 100.7), 101.7, 64),  # shrunk a little
        ((125.3, 100.7), 170.3, 32),  # shrunk much
        ((8.0, 12.0), 90, 64),  # over the left and upper edge
        ((240.0, 190.0), 90, 64),  # over the right and lower edge
        ((125.0, 100.0), 400, 96),  # larger than the picture
    ],
)
def test_a_cut_of_a_ramp_is_the_exact_ramp(
    centre: tuple[float, float], side: float, size: int
) -> None:
    crop = cut(ramp(), centre, side, size).astype(float)
    assert crop.shape == (size, size, 3)
    columns = places(centre[0], side, size, WIDTH)
    rows = places(centre[1], side, size, HEIGHT)
    # Averaging before shrinking blurs the fold where the repeated edge begins: half a step there.
    near = 0.8 + (0.5 * side / size if side > 1.9 * size else 0)
    assert np.abs(crop[..., 0] - columns).max() <= near
    assert np.abs(crop[..., 1] - rows[:, None]).max() <= near
    inside = (slice(size // 3, -size // 3),) * 2
    bias = 0.35 if side < 1.9 * size else 0.51  # levels are rounded once, or twice
    assert abs((crop[..., 0] - columns)[inside].mean()) < bias
    assert abs((crop[..., 1] - rows[:, None])[inside].mean()) < bias


def test_shrinking_averages_fine_texture() -> None:
    """Black and white columns in turn become even grey, not moiré."""
    stripes = np.zeros((300, 300), np.uint8)
    stripes[:, ::2] = 255
    crop = cut(stripes, (150.2, 150.0), 256.0, 32)
    assert np.abs(crop.astype(int) - 128).max() < 20


def test_a_moving_box_moves_the_crop_smoothly() -> None:
    """A tenth of a pixel in the box is a tenth of a pixel in the crop."""
    crops = [
        cut(ramp(), (100 + 0.1 * step, 100), 60, 60)[..., 0].astype(float) for step in range(11)
    ]
    means = [crop.mean() for crop in crops]
    assert means[10] - means[0] == pytest.approx(1.0, abs=0.02)
    assert max(np.diff(means)) <= 0.55  # pixels are whole numbers: half the row may round up


def test_a_face_crop_holds_the_box_in_its_middle() -> None:
    picture = np.zeros((300, 300, 3), np.uint8)
    box = np.array([100.0, 80.0, 180.0, 200.0])
    picture[80:200, 100:180] = 255
    size = 140
    crop = face_crop(picture, box, size)[..., 0] > 127
    step = FACE_SIDE * 100 / size  # input pixels an output pixel
    assert box_size(box) == 100
    assert crop.any(0).sum() == pytest.approx(80 / step, abs=1)
    assert crop.any(1).sum() == pytest.approx(120 / step, abs=1)
    rows, columns = np.nonzero(crop)
    assert rows.mean() == pytest.approx(size / 2 - 0.5, abs=1)
    assert columns.mean() == pytest.approx(size / 2 - 0.5, abs=1)


def test_a_mouth_crop_is_the_lower_middle_of_the_box() -> None:
    rows = np.tile(np.arange(250, dtype=np.uint8)[:, None], (1, 250))
    crop = mouth_crop(rows, np.array([50.0, 60.0, 150.0, 160.0]), 75)
    assert crop.shape == (75, 75)
    middle = 110 + MOUTH_DROP * 100
    assert crop[37, 37] == pytest.approx(middle - 0.5, abs=1)
    assert crop[0, 0] == pytest.approx(middle - MOUTH_SIDE * 50, abs=1)
    assert crop[-1, 0] == pytest.approx(middle + MOUTH_SIDE * 50 - 1, abs=1)


def test_a_crop_wholly_outside_is_black() -> None:
    assert not face_crop(ramp(), np.array([900.0, 900.0, 950.0, 950.0]), 32).any()
