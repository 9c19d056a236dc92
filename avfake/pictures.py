"""Decoded frames and image files as the pictures that all stages share."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from av.video.reformatter import ColorRange
from PIL import Image, ImageOps, UnidentifiedImageError

from avfake.limits import DEFAULT_LIMITS
from avfake.types import AvfakeError

LUMA_SIDE = 960  # longest side of the grey pictures for finding, tracking and mouths
COLOUR_SIDE = 1920  # longest side of the colour pictures for face crops

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """One picture on the regular time grid.

    `time`: seconds; `luma`: uint8 [h, w], full range, longest side <= 960; `colour`: uint8 RGB
    [H, W, 3], longest side <= 1920, on every n-th picture and None on the others; `scale`:
    pixels of the upright original a pixel of `luma`.
    """

    time: float
    luma: np.ndarray
    scale: float
    colour: np.ndarray | None

    @cached_property
    def levels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`luma`, and it shrunk to a half and a quarter: what motion is measured on."""
        half = _shrunk_by(self.luma, 2)
        return self.luma, half, _shrunk_by(half, 2)

    @cached_property
    def thumbnail(self) -> np.ndarray:
        """float32 [18, 32]: enough to see a change of scene."""
        small = cv2.resize(self.levels[2], (32, 18), interpolation=cv2.INTER_AREA)
        return small.astype(np.float32)

    @property
    def colour_scale(self) -> float:
        """Original pixels a pixel of `colour`."""
        if self.colour is None:
            raise ValueError("this picture has no colour")
        return self.scale * max(self.luma.shape) / max(self.colour.shape[:2])


class HeldFrame:
    """A decoded frame that may fill several grid points: converted once, and only if asked for."""

    def __init__(self, frame: Any, time: float) -> None:
        self.time = time
        self._frame = frame
        self._turns = frame.rotation // 90 % 4  # counter-clockwise quarter turns

    def picture(self, time: float, colour: bool) -> Picture:
        longest = max(self._frame.width, self._frame.height)
        scale = longest / max(self._luma.shape)
        return Picture(time, self._luma, scale, self._colour if colour else None)

    @cached_property
    def _luma(self) -> np.ndarray:
        luma, _ = _shrunk(_luma(self._frame))
        return np.ascontiguousarray(np.rot90(luma, self._turns))

    @cached_property
    def _colour(self) -> np.ndarray:
        width, height = self._frame.width, self._frame.height
        factor = min(1.0, COLOUR_SIDE / max(width, height))
        size = {}
        if factor < 1.0:
            size = {"width": _scaled(width, factor), "height": _scaled(height, factor)}
        rgb = self._frame.to_ndarray(format="rgb24", **size)
        return np.ascontiguousarray(np.rot90(rgb, self._turns))


def _scaled(side: int, factor: float) -> int:
    return max(1, round(side * factor))


def check_size(width: int, height: int, pixels: int, name: str) -> None:
    """Raise AvfakeError `too_large` for a picture of more than `pixels`."""
    if width * height > pixels:
        text = f"{name} has pictures of {width}x{height} pixels, more than {pixels}."
        raise AvfakeError("too_large", text)


def read_still(
    file: Any, name: str, pixels: int = DEFAULT_LIMITS.pixels
) -> tuple[np.ndarray, float]:
    """(uint8 RGB [H, W, 3], upright by its EXIF note, original pixels a pixel of it).

    Raises AvfakeError `too_large` before decoding one of more than `pixels`, or `not_media`.
    """
    try:
        with Image.open(file, formats=("JPEG", "PNG", "WEBP", "BMP")) as image:
            original = image.size
            check_size(image.width, image.height, pixels, name)
            image.draft("RGB", (COLOUR_SIDE, COLOUR_SIDE))  # JPEG: decodes at a fraction
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        log.debug("%s: %s", name, error)
        raise AvfakeError("not_media", f"{name} is an image that cannot be decoded.") from None
    picture = np.asarray(upright)
    factor = COLOUR_SIDE / max(picture.shape[:2])
    if factor < 1:
        height, width = (_scaled(side, factor) for side in picture.shape[:2])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return picture, max(original) / max(picture.shape[:2])


def still_picture(colour: np.ndarray, scale: float) -> Picture:
    """What `read_still` gave, as the one picture of a clip at time 0."""
    luma, more = _shrunk(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY))
    return Picture(0.0, luma, scale * more, colour)


def _luma(frame: Any) -> np.ndarray:
    """uint8 [H, W] view or copy of a frame's luma, full range where FFmpeg converts it."""
    if frame.format.name in ("yuv420p", "yuv422p", "yuv444p", "nv12"):
        plane = frame.planes[0]
        luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        luma = luma[: frame.height, : frame.width]
        small, _ = _shrunk(luma)
        if frame.color_range == ColorRange.JPEG:
            return small
        # Studio range 16..235 becomes 0..255, as it does in the colour pictures.
        return cv2.convertScaleAbs(np.maximum(small, 16) - np.uint8(16), alpha=255 / 219)
    return frame.to_ndarray(format="gray")


def _shrunk_by(picture: np.ndarray, factor: int) -> np.ndarray:
    height, width = (max(1, side // factor) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _shrunk(picture: np.ndarray) -> tuple[np.ndarray, float]:
    """(picture with its longest side <= LUMA_SIDE, original pixels a pixel of it)."""
    factor = LUMA_SIDE / max(picture.shape[:2])
    if factor >= 1:
        return picture, 1.0
    height, width = (_scaled(side, factor) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), 1 / factor
