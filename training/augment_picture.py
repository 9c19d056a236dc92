"""What happens to a face crop between the camera and us: light, lenses, scaling, codecs.

Applied after any blending and with the same odds to both classes, so that neither compression nor
scale gives the class away. Given the same generator state, two pictures of one size get exactly
the same treatment.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
import cv2
import numpy as np

Generator = np.random.Generator


def augment(picture: np.ndarray, rng: Generator) -> np.ndarray:
    """A changed copy of picture uint8 [H, W, 3] RGB, of the same shape.

    Order as in life: the scene (mirror, light), the lens and sensor (blur, noise), then what
    uploads do (scaling, JPEG or H.264).
    """
    # Every draw is made whatever the earlier ones said: the generator stays in step.
    mirror, light, lens, sensor, scale, codec = rng.random(6)
    inner = rng.spawn(5)
    picture = picture[:, ::-1] if mirror < 0.5 else picture
    picture = np.ascontiguousarray(picture)
    if light < 0.6:
        picture = jitter_colour(picture, inner[0])
    if lens < 0.2:
        picture = blur(picture, inner[1])
    if sensor < 0.25:
        picture = noise(picture, inner[2])
    if scale < 0.35:
        picture = rescale(picture, inner[3])
    if codec < 0.45:
        frames = int(inner[4].integers(1, 4))
        picture = h264(picture, crf=int(inner[4].integers(18, 41)), frames=frames)
    elif codec < 0.75:
        picture = jpeg(picture, quality=int(inner[4].integers(30, 96)))
    return picture


def jitter_colour(picture: np.ndarray, rng: Generator) -> np.ndarray:
    """Brightness, contrast, white balance and saturation; one picture in twelve turns grey."""
    levels = np.arange(256) / 255
    gamma = np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.05, 3))
    table = (levels[:, None] ** gamma - 0.5) * np.exp(rng.normal(0, 0.15)) + 0.5
    table = table * rng.uniform(0.75, 1.1) + rng.normal(0, 0.03)
    table = np.clip(np.rint(table * 255), 0, 255).astype(np.uint8).reshape(1, 256, 3)
    colourful = 0.0 if rng.random() < 1 / 12 else float(np.exp(rng.normal(0, 0.25)))
    picture = cv2.LUT(picture, table)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2)
    return cv2.addWeighted(picture, colourful, grey, 1 - colourful, 0)


def blur(picture: np.ndarray, rng: Generator) -> np.ndarray:
    """Out of focus, or moving along a line of up to 7 pixels."""
    if rng.random() < 0.6:
        return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.8))
    length, angle = int(rng.integers(2, 5)), rng.uniform(0, np.pi)
    side = 2 * length - 1
    kernel = np.zeros((side, side), np.float32)
    reach = (length - 1) * np.array([np.cos(angle), np.sin(angle)])
    ends = (np.array([[-1], [1]]) * reach + length - 1).round().astype(int)
    cv2.line(kernel, ends[0].tolist(), ends[1].tolist(), 1.0)
    return cv2.filter2D(picture, -1, kernel / kernel.sum())


def noise(picture: np.ndarray, rng: Generator) -> np.ndarray:
    """Sensor noise of 1 to 8 grey levels, in brightness alone or in each colour."""
    channels = 1 if rng.random() < 0.5 else 3
    grains = rng.standard_normal((*picture.shape[:2], channels), np.float32)
    return np.clip(np.rint(picture + rng.uniform(1, 8) * grains), 0, 255).astype(np.uint8)


def rescale(picture: np.ndarray, rng: Generator) -> np.ndarray:
    """Down to 30-90% of its size and back up."""
    height, width = picture.shape[:2]
    factor = rng.uniform(0.3, 0.9)
    down = (cv2.INTER_AREA, cv2.INTER_LINEAR)[rng.integers(2)]
    up = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(2)]
    small = (max(8, round(width * factor)), max(8, round(height * factor)))
    small_picture = cv2.resize(picture, small, interpolation=down)
    return cv2.resize(small_picture, (width, height), interpolation=up)


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    """Through JPEG at `quality` (1 to 100)."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, encoded = cv2.imencode(".jpg", picture[..., ::-1], options)
    return np.ascontiguousarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1])


def h264(picture: np.ndarray, crf: int, frames: int = 1) -> np.ndarray:
    """Through x264 at `crf` (0 to 51, higher is worse), as the last of `frames` pictures.

    The earlier ones are the same picture moved by a pixel a frame, so that with frames > 1 the
    answer is a predicted (P) picture, as nearly all pictures of a video are. Odd sides are padded
    for 4:2:0 and cut back.
    """
    height, width = picture.shape[:2]
    even = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    moved = [np.roll(even, shift, axis=1) for shift in reversed(range(frames))]
    # OpenCV's conversion: a fresh libswscale context for each small picture costs more than x264.
    shown = x264([cv2.cvtColor(one, cv2.COLOR_RGB2YUV_I420) for one in moved], crf)
    decoded = cv2.cvtColor(shown[-1], cv2.COLOR_YUV2RGB_I420)
    return np.ascontiguousarray(decoded[:height, :width])


def x264(pictures: Sequence[np.ndarray], crf: int) -> list[np.ndarray]:
    """A clip through x264 at `crf` and back: planes I420, uint8 [3 H / 2, W] of even H and W."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = pictures[0].shape[1], pictures[0].shape[0] * 2 // 3
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.thread_count = 1
    # Without look-ahead: with it, the same pictures are not always coded into the same bytes.
    encoder.options = {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency"}
    packets = []
    for index, planes in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
        frame.pts = index
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    shown = [frame for packet in packets for frame in decoder.decode(packet)]
    shown += decoder.decode(None)
    return [frame.to_ndarray() for frame in shown]
