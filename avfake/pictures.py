"""Decoded frames and image files as the pictures that all stages share."""

from __future__ import annotations

import logging
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from av.video.reformatter import ColorRange
from PIL import Image, ImageOps

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
        self._turns = quarter_turns(frame)

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


@dataclass(frozen=True)
class Still:
    """An image file: `colour` is uint8 RGB [H, W, 3], upright, longest side <= 1920; `scale`:
    original pixels a pixel of it; `moves`: whether more pictures follow, as in an animated PNG.
    """

    colour: np.ndarray
    scale: float
    moves: bool

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the upright original."""
        height, width = self.colour.shape[:2]
        return round(width * self.scale), round(height * self.scale)


def read_still(file: Any, name: str, pixels: int = DEFAULT_LIMITS.pixels) -> Still:
    """Decode an image file, upright by its EXIF note.

    Raises AvfakeError `too_large` before decoding one of more than `pixels`, or `not_media`, and
    OSError where the disk fails.
    """
    try:
        with Image.open(file, formats=("JPEG", "PNG", "WEBP", "BMP")) as image:
            original = image.size
            check_size(image.width, image.height, pixels, name)
            moves = getattr(image, "is_animated", False)
            image.draft("RGB", (COLOUR_SIDE, COLOUR_SIDE))  # JPEG: decodes at a fraction
            image.load()
            upright = _upright(image, name)
            if upright.mode.startswith("I"):  # grey of 16 bits, of which Pillow makes white
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            picture = np.asarray(upright.convert("RGB"))
    except Image.DecompressionBombError:  # Pillow's own limit, far above ours
        raise AvfakeError("too_large", f"{name} has more than {pixels} pixels.") from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault; Pillow's own have no number
        log.debug("%s: %s", name, error)
        raise AvfakeError("not_media", f"{name} is an image that cannot be decoded.") from None
    factor = COLOUR_SIDE / max(picture.shape[:2])
    if factor < 1:
        height, width = (_scaled(side, factor) for side in picture.shape[:2])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return Still(picture, max(original) / max(picture.shape[:2]), moves)


def _upright(image: Image.Image, name: str) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow raises nearly anything on damaged EXIF notes
        log.debug("%s: EXIF: %s", name, error)
        return image


def still_picture(still: Still) -> Picture:
    """An image file as the one picture of a clip at time 0."""
    luma, more = _shrunk(cv2.cvtColor(still.colour, cv2.COLOR_RGB2GRAY))
    return Picture(0.0, luma, still.scale * more, still.colour)


def quarter_turns(frame: Any) -> int:
    """Quarter turns counter-clockwise, 0 to 3, that bring a frame nearest to upright.

    A display matrix from which no angle can be told (all zeros, say) turns nothing.
    """
    angle = frame.rotation  # degrees
    return round(angle / 90) % 4 if -180 <= angle <= 180 else 0


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
