"""The augmentation treats both classes alike, and its codecs do what their settings say."""

import numpy as np
import pytest
from skimage.data import astronaut

from training.augment_picture import augment, h264, jpeg, noise, rescale

FACE = np.ascontiguousarray(astronaut()[40:168, 160:288])


def error(picture: np.ndarray) -> float:
    return float(np.square(picture.astype(float) - FACE).mean())


def test_same_generator_state_same_treatment() -> None:
    forged = FACE.copy()
    forged[60:90, 40:80] = 255 - forged[60:90, 40:80]
    for seed in range(40):
        first, again = (augment(FACE, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(first, again)
        # The forgery stays where it was, or is mirrored: far from it both look the same.
        other = augment(forged, np.random.default_rng(seed))
        assert np.abs(first[:20].astype(int) - other[:20]).mean() < 3


def test_treatments_differ_keep_the_shape_and_the_input() -> None:
    before = FACE.copy()
    many = [augment(FACE, np.random.default_rng(seed)) for seed in range(30)]
    assert all(picture.shape == FACE.shape and picture.dtype == np.uint8 for picture in many)
    assert np.array_equal(FACE, before)
    assert len({picture.tobytes() for picture in many}) > 25
    # Still that face: correlated with it, mirrored or not.
    for picture in many:
        grey, mine = picture.mean(2).ravel(), FACE.mean(2)
        either = [np.corrcoef(grey, m.ravel())[0, 1] for m in (mine, mine[:, ::-1])]
        assert max(either) > 0.8


@pytest.mark.parametrize("frames", [1, 3])
def test_h264_loses_more_at_higher_crf_and_keeps_colours(frames: int) -> None:
    errors = [error(h264(FACE, crf, frames)) for crf in (18, 30, 40)]
    assert errors[0] < errors[1] < errors[2] < 600
    fine = h264(FACE, 10, frames).astype(float)
    assert np.abs(fine.mean((0, 1)) - FACE.mean((0, 1))).max() < 2


def test_h264_takes_odd_sides() -> None:
    odd = FACE[:95, :101]
    assert h264(odd, 20).shape == odd.shape


def test_jpeg_loses_more_at_lower_quality() -> None:
    assert error(jpeg(FACE, 90)) < error(jpeg(FACE, 50)) < error(jpeg(FACE, 20)) < 600


def test_noise_and_rescale_add_and_take_detail() -> None:
    def fine(picture: np.ndarray) -> float:
        return float(np.abs(np.diff(picture.astype(float), axis=1)).mean())

    rng = np.random.default_rng(0)
    assert fine(noise(FACE, rng)) > fine(FACE) > fine(rescale(FACE, rng))
