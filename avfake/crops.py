"""From a face box to what the branches look at. Inference and training cut with these functions.

Everything is a square round a point of the face box, in units of the box's size (the mean of its
width and height, steadier than either: the height changes when the mouth opens).
"""

from __future__ import annotations

import cv2
import numpy as np

FACE_SIDE = 1.4  # the face crop's side, in box sizes: the head with a rim of background
FACE_LEAST = 1.0  # its side where the picture ends sooner, as pictures cut to a face do
MOUTH_SIDE = 0.75  # the mouth clip's side: nose to chin, cheek to cheek
MOUTH_DROP = 0.2  # how far the mouth clip's centre lies below the box's centre


def box_size(box: np.ndarray) -> float:
    """Mean of a box's width and height, in pixels."""
    return float(box[2] - box[0] + box[3] - box[1]) / 2


def face_crop(picture: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """The face of `box` as a square.

    Parameters: `picture` uint8 [H, W, 3]; `box` float [4] in its pixels; `size` in pixels.
    Returns uint8 [size, size, 3]. The square keeps inside the picture as long as it is not smaller
    than the box; beyond the picture its edge is repeated.
    """
    x, y = _centre(box)
    height, width = picture.shape[:2]
    inside = 2 * min(x, y, width - x, height - y)
    side = min(FACE_SIDE, max(FACE_LEAST, inside / box_size(box))) * box_size(box)
    return cut(picture, (x, y), side, size)


def mouth_crop(picture: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """The lower face of `box` as a square: uint8 [H, W] grey -> uint8 [size, size]."""
    x, y = _centre(box)
    span = box_size(box)
    return cut(picture, (x, y + MOUTH_DROP * span), MOUTH_SIDE * span, size)


def cut(picture: np.ndarray, centre: tuple[float, float], side: float, size: int) -> np.ndarray:
    """A square of `side` pixels round `centre`, resampled to `size` x `size`.

    Exact to a fraction of a pixel, so that a clip of crops does not tremble; when shrinking, pixels
    are averaged first, so that fine texture does not turn into moiré.
    """
    shrink = max(1, int(side / size))
    half = side / 2 + shrink
    left, top = int(np.floor(centre[0] - half)), int(np.floor(centre[1] - half))
    right, bottom = int(np.ceil(centre[0] + half)) + 1, int(np.ceil(centre[1] + half)) + 1
    height, width = picture.shape[:2]
    part = picture[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    if part.size == 0:
        return np.zeros((size, size, *picture.shape[2:]), np.uint8)
    left, top = max(0, left), max(0, top)
    if shrink > 1:
        part = cv2.resize(
            part,
            (max(1, part.shape[1] // shrink), max(1, part.shape[0] // shrink)),
            interpolation=cv2.INTER_AREA,
        )
    # What a pixel of `part` is in `picture`'s pixels, per axis: `part` was rounded to whole pixels.
    across = (min(width, right) - left) / part.shape[1]
    down = (min(height, bottom) - top) / part.shape[0]
    step = side / size
    # Maps the centres of output pixels to the centres of input pixels.
    inverse = np.array(
        [
            [step / across, 0, (centre[0] - side / 2 + step / 2 - left) / across - 0.5],
            [0, step / down, (centre[1] - side / 2 + step / 2 - top) / down - 0.5],
        ]
    )
    return cv2.warpAffine(
        part,
        inverse,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _centre(box: np.ndarray) -> tuple[float, float]:
    return float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2
