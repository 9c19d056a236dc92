"""Pseudo-fake faces, made in memory from real ones as a training signal.

Two families, both leaving what real face manipulation leaves (a seam, and a face whose colour,
sharpness and noise are not those of its surroundings) without any generator's own fingerprint:
self-blended images (Shiohara & Yamasaki, "Detecting deepfakes with self-blended images", CVPR
2022), where a face is laid on itself a little changed; and swaps, where another person's face is
fitted to the place, colour-matched and blended plainly or by Poisson's equation (Perez et al.,
SIGGRAPH 2003).

No landmarks are needed: regions are drawn in face coordinates, where the box is [-1, 1] x [-1, 1],
turned by the line of the eyes when the five points are known, and then bent at random.

Every function takes a picture uint8 [H, W, 3] RGB, a face box (left, top, right, bottom) in its
pixels, the five points float [5, 2] or None, and a numpy Generator; pictures are never changed in
place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

Generator = np.random.Generator


class Face(NamedTuple):
    """A picture with a face in it: uint8 [H, W, 3] RGB, float [4], float [5, 2] or None."""

    picture: np.ndarray
    box: np.ndarray
    points: np.ndarray | None


@dataclass(frozen=True)
class Region:
    """A part of the face in face coordinates: its middle's height (0 is the box's middle, 1 the
    chin), ranges of half its width and height, and of its shape (2 ellipse, 8 nearly a box).
    """

    middle: float
    half_width: tuple[float, float]
    half_height: tuple[float, float]
    exponent: tuple[float, float] = (2.0, 4.0)


REGIONS = {
    "face": Region(0.15, (0.70, 0.95), (0.62, 0.85)),
    "inner": Region(0.15, (0.45, 0.70), (0.50, 0.72), (2.0, 6.0)),
    "box": Region(0.05, (0.80, 1.10), (0.80, 1.10), (6.0, 16.0)),
    "lower": Region(0.52, (0.45, 0.85), (0.30, 0.48), (2.0, 8.0)),
    "mouth": Region(0.50, (0.30, 0.52), (0.18, 0.32)),
    "eyes": Region(-0.20, (0.55, 0.85), (0.18, 0.32)),
}
MOVING = ("lower", "mouth")
"""Regions that lip-sync fakes redraw: their content is stretched more than a whole face's."""
RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)
"""Blending ratios and their odds, as in the paper."""
VISIBLE = 1.5
"""Mean change inside the region, in grey levels, under which a fake would be a wrong label."""


def self_blend(
    picture: np.ndarray,
    box: np.ndarray,
    points: np.ndarray | None,
    rng: Generator,
    region: str = "face",
    strength: float = 1.0,
    painted: np.ndarray | None = None,
) -> np.ndarray:
    """The picture with one region of its face laid on itself, changed and moved a little.

    `region` is a key of REGIONS; `strength` scales the changes: 1 is as strong as the paper's, up
    to 2 serves to begin with. `painted`: the same picture as a generator paints it, which needs no
    other change. Pixels outside the region's soft mask stay exactly as they were.
    """
    mask = region_mask(picture.shape[:2], box, points, rng, region)
    for _ in range(4):
        source = picture if painted is None else painted
        if painted is None or rng.random() < 0.5:
            source = distort(source, rng, strength)
        source = _move(source, box, rng, strength, moving=region in MOVING)
        fake = paste(picture, source, mask, _ratio(rng, strength), poisson=rng.random() < 0.1)
        if _visible(picture, fake, mask):
            break
        strength = 1.5 * strength
    return fake


def swap(
    picture: np.ndarray,
    box: np.ndarray,
    points: np.ndarray | None,
    rng: Generator,
    donor: Face,
    region: str = "face",
    strength: float = 1.0,
    poisson: bool = False,
) -> np.ndarray:
    """The picture with `donor`'s face fitted into the place of its own.

    The donor is aligned by box and points, colour-matched in most draws, and often softened, as
    generators that paint small faces do.
    """
    mask = region_mask(picture.shape[:2], box, points, rng, region)
    height, width = picture.shape[:2]
    source = cv2.warpAffine(
        donor.picture,
        _alignment(donor, Face(picture, box, points)),
        (width, height),
        flags=cv2.INTER_AREA,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    if rng.random() < 0.85:
        source = match_colour(source, picture, mask, amount=rng.uniform(0.6, 1.0))
    if rng.random() < 0.6:
        source = distort(source, rng, 0.6 * strength)
    return paste(picture, source, mask, _ratio(rng, strength), poisson)


def distort(picture: np.ndarray, rng: Generator, strength: float = 1.0) -> np.ndarray:
    """Another colour and another sharpness: the paper's source-target transforms, and the
    resampling and recompression that a generated face has been through.
    """
    colour, frequency = rng.random(2) < 0.75
    if colour or not frequency:
        picture = _recolour(picture, rng, strength)
    if frequency:
        steps = (_resample, _blur, _sharpen, _recompress, _add_noise, _smooth)
        for index in rng.choice(len(steps), size=rng.integers(1, 3), replace=False):
            picture = steps[index](picture, rng, strength)
    return picture


def region_mask(
    shape: tuple[int, int],
    box: np.ndarray,
    points: np.ndarray | None,
    rng: Generator,
    region: str,
) -> np.ndarray:
    """Soft mask float32 [H, W] in [0, 1] of a randomly shaped region; 0 away from the face."""
    part = REGIONS[region]
    to_pixels = face_frame(box, points)
    middle = np.array([0.0, part.middle])
    if region in MOVING and points is not None:
        # A talking mouth is not where the box's proportions put it.
        mouth = np.append(points[3:5].mean(0), 1.0)
        middle = np.clip(_inverse(to_pixels) @ mouth, -0.8, 0.8)
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    curve = np.sign(circle) * np.abs(circle) ** (2 / rng.uniform(*part.exponent))
    half = np.array([rng.uniform(*part.half_width), rng.uniform(*part.half_height)])
    # From a hard edge to one as soft as a quarter of the region; the softer, the farther inside.
    softness = float(np.exp(rng.uniform(np.log(0.01), np.log(0.25))))
    # Elastic deformation: low harmonics bend the outline as a warped mask would be bent.
    waves = [rng.normal(0, 0.08 / k) * np.cos(k * angle + rng.uniform(0, 7)) for k in range(1, 6)]
    reach = (1 - softness) * (1 + np.sum(waves, 0))
    curve = middle + curve * half * reach[:, None]
    outline = curve @ to_pixels[:, :2].T + to_pixels[:, 2]
    mask = np.zeros(shape, np.float32)
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 1.0, cv2.LINE_AA, shift=4)
    extent = float(min(half * (box[2:] - box[:2]))) / 2
    soft = cv2.GaussianBlur(mask, (0, 0), max(softness * extent, 0.3))
    return np.clip(soft / max(float(soft.max()), 1e-6), 0, 1)


def paste(
    target: np.ndarray, source: np.ndarray, mask: np.ndarray, ratio: float, poisson: bool
) -> np.ndarray:
    """`source` over `target` where `mask` is set: plainly, with `ratio` (1 hides the target), or
    by Poisson blending. Both pictures have the same size.
    """
    if poisson:
        hard = np.where(mask > 0.5, np.uint8(255), np.uint8(0))
        # seamlessClone fails at the very border.
        hard[:2], hard[-2:], hard[:, :2], hard[:, -2:] = 0, 0, 0, 0
        left, top, width, height = cv2.boundingRect(hard)
        if min(width, height) >= 8:
            middle = (left + width // 2, top + height // 2)
            return cv2.seamlessClone(source, target, hard, middle, cv2.NORMAL_CLONE)
    alpha = (mask * ratio)[..., None]
    mixed = target + (source.astype(np.float32) - target) * alpha
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def match_colour(
    source: np.ndarray, target: np.ndarray, mask: np.ndarray, amount: float = 1.0
) -> np.ndarray:
    """`source` with the mean and spread of `target`'s colours inside `mask`, in CIELAB (Reinhard
    et al., "Color transfer between images", 2001). `amount` 0 changes nothing, 1 all.
    """
    inside = (mask > 0.5).astype(np.uint8)
    ours, theirs = (cv2.cvtColor(p, cv2.COLOR_RGB2LAB) for p in (source, target))
    mean, spread = (a.ravel() for a in cv2.meanStdDev(ours, mask=inside))
    wanted_mean, wanted_spread = (a.ravel() for a in cv2.meanStdDev(theirs, mask=inside))
    gain = np.clip(wanted_spread / np.maximum(spread, 1.0), 0.5, 2.0)
    matched = (ours - mean) * gain + wanted_mean
    mixed = ours + amount * (matched - ours)
    return cv2.cvtColor(np.clip(mixed, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)


def face_frame(box: np.ndarray, points: np.ndarray | None) -> np.ndarray:
    """Float [2, 3]: face coordinates to pixels. (0, 0) is the box's middle, x = 1 half its width
    along the line of the eyes, y = 1 half its height towards the chin.
    """
    left, top, right, bottom = (float(v) for v in box)
    turn = 0.0
    if points is not None:
        across, down = points[1] - points[0]
        # A face in profile has its eyes on each other: no line to be read.
        if across > 0.15 * (right - left):
            turn = float(np.clip(np.arctan2(down, across), -0.8, 0.8))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    axes = rotation * np.array([(right - left) / 2, (bottom - top) / 2])
    return np.column_stack([axes, [(left + right) / 2, (top + bottom) / 2]])


def _alignment(donor: Face, target: Face) -> np.ndarray:
    """Affine [2, 3] that lays the donor's box and points on the target's, in least squares."""
    corners = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], np.float64)
    pairs = [corners @ face_frame(face.box, face.points).T for face in (donor, target)]
    if donor.points is not None and target.points is not None:
        # The points count double: a swap that misses the eyes by much would be too easy.
        points = (donor.points, target.points)
        pairs = [np.concatenate([c, p, p]) for c, p in zip(pairs, points, strict=True)]
    ones = np.ones((len(pairs[0]), 1))
    return np.linalg.lstsq(np.hstack([pairs[0], ones]), pairs[1], rcond=None)[0].T


def _ratio(rng: Generator, strength: float) -> float:
    """One of the paper's ratios; strong forgeries are not faint."""
    return float(np.clip(rng.choice(RATIOS), strength - 0.5, 1.0))


def _move(
    picture: np.ndarray, box: np.ndarray, rng: Generator, strength: float, moving: bool
) -> np.ndarray:
    """A small affine about the face's middle, and a smooth warp as a changed expression has."""
    width, height = float(box[2] - box[0]), float(box[3] - box[1])
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    affine = cv2.getRotationMatrix2D(
        (float(x), float(y)), strength * rng.normal(0, 2.0), 1 + strength * rng.normal(0, 0.03)
    )
    affine[:, 2] += strength * rng.normal(0, 0.025, 2) * (width, height)
    rows, columns = picture.shape[:2]
    inverse = _inverse(affine).astype(np.float32)
    across, down = np.meshgrid(
        np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32)
    )
    reach = strength * (0.03 if moving else 0.015)
    bends = rng.normal(0, reach, (2, 6, 6)) * np.array([width, height])[:, None, None]
    if moving:
        bends[1] *= 1.5  # lips move up and down
    map_x, map_y = (
        inverse[i, 0] * across
        + inverse[i, 1] * down
        + inverse[i, 2]
        + cv2.resize(bends[i].astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC)
        for i in range(2)
    )
    return cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _recolour(picture: np.ndarray, rng: Generator, strength: float) -> np.ndarray:
    levels = np.arange(256) / 255
    shift = strength * (rng.normal(0, 0.03) + rng.normal(0, 0.03, 3))
    gain = np.exp(strength * rng.normal(0, 0.12))
    gamma = np.exp(strength * rng.normal(0, 0.12, 3))
    table = (levels[:, None] ** gamma - 0.5) * gain + 0.5 + shift
    table = np.clip(np.rint(table * 255), 0, 255).astype(np.uint8)
    picture = cv2.LUT(picture, table.reshape(1, 256, 3))
    if rng.random() < 0.5:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2)
        colourful = float(np.exp(strength * rng.normal(0, 0.3)))
        picture = cv2.addWeighted(picture, colourful, grey, 1 - colourful, 0)
    return picture


def _resample(picture: np.ndarray, rng: Generator, strength: float) -> np.ndarray:
    height, width = picture.shape[:2]
    factor = 1 + strength * rng.uniform(0.3, 2.5)
    small = (max(8, round(width / factor)), max(8, round(height / factor)))
    shrink = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_NEAREST)[rng.choice(3, p=(0.6, 0.3, 0.1))]
    enlarge = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)[
        rng.choice(3, p=(0.5, 0.4, 0.1))
    ]
    return cv2.resize(
        cv2.resize(picture, small, interpolation=shrink), (width, height), interpolation=enlarge
    )


def _blur(picture: np.ndarray, rng: Generator, strength: float) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), 0.4 + strength * rng.uniform(0.2, 1.6))


def _sharpen(picture: np.ndarray, rng: Generator, strength: float) -> np.ndarray:
    amount = strength * rng.uniform(0.4, 1.8)
    soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 2.0))
    return cv2.addWeighted(picture, 1 + amount, soft, -amount, 0)


def _recompress(picture: np.ndarray, rng: Generator, strength: float) -> np.ndarray:
    quality = max(10, round(85 - strength * rng.uniform(0, 60)))
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)


def _add_noise(picture: np.ndarray, rng: Generator, strength: float) -> np.ndarray:
    noise = rng.standard_normal(picture.shape[:2], np.float32)
    level = 1 + strength * rng.uniform(1, 7)
    noisy = picture + (level * noise)[..., None]
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _smooth(picture: np.ndarray, rng: Generator, strength: float) -> np.ndarray:
    """Skin without pores: noise goes, edges stay."""
    return cv2.bilateralFilter(picture, 5, 10 + 40 * strength * rng.random(), 3)


def _visible(picture: np.ndarray, fake: np.ndarray, mask: np.ndarray) -> bool:
    change = cv2.absdiff(picture, fake).mean(2)
    return float((change * mask).sum()) >= VISIBLE * float(mask.sum())


def _inverse(affine: np.ndarray) -> np.ndarray:
    return cv2.invertAffineTransform(np.asarray(affine, np.float64))
