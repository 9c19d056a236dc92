"""A fake beside its original: was the sound exchanged, was the picture changed, and where?

For sets that give a fake one label and name its original (DFDC). Both clips are decoded and laid on
one another:

- sound: after the best shift (codecs delay it) and level, what is left of the original when the
  fake is subtracted, in dB below the original, second by second; the median counts. A re-encoded
  voice leaves little, another voice as much as there was.
- picture: one picture a second; how far the grey levels inside the original's faces differ, against
  how far they differ elsewhere, which is what the codec does.

What was measured stands in the columns EVIDENCE, and what it was taken for in the labels. Between
the thresholds, and where an original or a face is missing, a label stays unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avfake.crops import box_size
from avfake.faces import FaceFinder, load_finder
from avfake.media import Clip
from avfake.pictures import Picture
from avfake.types import SAMPLE_RATE, AvfakeError
from training.batches import Outcome

EVIDENCE = {
    "sound_difference_db": "median over seconds of the residual's level below the original's sound",
    "sound_shift_ms": "by how much the fake's sound is later than the original's",
    "picture_difference": "mean difference inside the faces, grey levels of 255",
    "picture_elsewhere": "the same outside the faces",
    "face_share": "share of all difference, beyond what is everywhere, that lies inside the faces",
    "mouth_share": "share of the faces' difference in the lower half of the face",
    "compared": "ok, or why nothing was compared",
}
SAME_SOUND, OTHER_SOUND = -9.0, -4.0  # dB; what lies between is unknown
SAME_PICTURE, OTHER_PICTURE = 1.6, 2.5  # times the difference elsewhere
FAINT, VISIBLE = 2.0, 3.0  # grey levels: below a change is none, above it may be one
SHIFT = 0.25  # seconds that the sounds may be apart
QUIET = 1e-3  # RMS: seconds of original sound below it say nothing
PICTURES = 60  # pictures compared at most
HEIGHT = 270  # pixels of the pictures that are compared


@dataclass(frozen=True)
class Pair:
    """A fake and its original, paths below the data set's folder."""

    path: str
    original: str


@dataclass(frozen=True)
class Comparer:
    """Compares pairs of files below `root`; one row of the table "compared" each."""

    root: Path
    finder: FaceFinder

    @classmethod
    def load(cls, root: Path, face_model: str | None) -> Comparer:
        return cls(root, load_finder(face_model))

    def __call__(self, pair: Pair) -> Outcome:
        row: dict[str, Any] = {"path": pair.path}
        try:
            row |= compare(self.root / pair.path, self.root / pair.original, self.finder)
        except AvfakeError as error:
            row["compared"] = error.reason
        return Outcome({"compared": [row]})


def compare(fake: Path, original: Path, finder: FaceFinder) -> dict[str, Any]:
    """The columns EVIDENCE and label_visual, label_audio, label_lipsync; None where unknown.

    Raises AvfakeError where one of the two cannot be read.
    """
    with Clip(fake) as one, Clip(original) as two:
        heard = _sound(one, two)
        seen = _pictures(one, two, finder)
    row = {"compared": "ok", **heard, **seen}
    audio = judge(heard.get("sound_difference_db"), SAME_SOUND, OTHER_SOUND)
    visual = picture_label(seen)
    # One of the two was forged: where one is sure not to be, it was the other.
    if audio == 0 and visual is None:
        visual = 1
    if visual == 0 and audio is None and "sound_difference_db" in heard:
        audio = 1
    if (audio, visual) == (0, 0):
        audio = visual = None
        row["compared"] = "no_difference"
    # Swapped faces keep the mouth's movement; whether an exchanged voice fits it nobody says.
    row |= {
        "label_visual": visual,
        "label_audio": audio,
        "label_lipsync": 0 if audio == 0 else None,
    }
    return row


def judge(value: float | None, same: float, other: float) -> int | None:
    """0 below `same`, 1 above `other`, None between and where there is no value."""
    if value is None or same <= value <= other:
        return None
    return int(value > other)


def picture_label(seen: dict[str, float]) -> int | None:
    """Whether the picture was changed, by the difference inside faces and elsewhere."""
    if "picture_difference" not in seen:
        return None
    inside, elsewhere = seen["picture_difference"], seen["picture_elsewhere"]
    ratio = inside / max(elsewhere, 0.5)
    if inside < FAINT or ratio < SAME_PICTURE:
        return 0
    return 1 if inside > VISIBLE and ratio > OTHER_PICTURE else None


def _sound(one: Clip, two: Clip) -> dict[str, float]:
    first, second = one.sound(), two.sound()
    if first is None or second is None:
        return {}
    end = min(first.end, second.end, float(PICTURES))
    fake, real = first.between(0.0, end), second.between(0.0, end)
    count = min(len(fake), len(real))
    fake, real = fake[:count].astype(np.float64), real[:count].astype(np.float64)
    if count < SAMPLE_RATE or np.sqrt(np.mean(real**2)) < QUIET:
        return {}
    shift = best_shift(fake, real)
    fake = np.roll(fake, -shift)
    edge = round(SHIFT * SAMPLE_RATE)
    fake, real = fake[edge : count - edge], real[edge : count - edge]
    seconds = [
        residual_db(fake[start : start + SAMPLE_RATE], real[start : start + SAMPLE_RATE])
        for start in range(0, len(real) - SAMPLE_RATE // 2, SAMPLE_RATE)
    ]
    loud = [value for value in seconds if value is not None]
    if not loud:
        return {}
    return {
        "sound_difference_db": round(float(np.median(loud)), 2),
        "sound_shift_ms": round(1000 * shift / SAMPLE_RATE, 1),
    }


def best_shift(fake: np.ndarray, real: np.ndarray) -> int:
    """By how many samples `fake` is later than `real`, by cross-correlation, within SHIFT."""
    size = 2 ** int(np.ceil(np.log2(2 * len(real))))
    product = np.fft.rfft(fake, size) * np.conj(np.fft.rfft(real, size))
    likeness = np.abs(np.fft.irfft(product, size))
    reach = round(SHIFT * SAMPLE_RATE)
    shifts = np.arange(-reach, reach + 1)
    return int(shifts[likeness[shifts].argmax()])


def residual_db(fake: np.ndarray, real: np.ndarray) -> float | None:
    """Level of real - gain * fake below `real` in dB, at the best gain; None where it is quiet."""
    power = float(real @ real)
    if np.sqrt(power / len(real)) < QUIET:
        return None
    gain = float(fake @ real) / (float(fake @ fake) + 1e-12)
    residual = real - gain * fake
    return 10 * float(np.log10(max(float(residual @ residual) / power, 1e-6)))


def _pictures(one: Clip, two: Clip, finder: FaceFinder) -> dict[str, float]:
    inside, outside, lower, upper = [], [], [], []
    share_in, share_all = 0.0, 0.0
    pairs = zip(one.pictures(1, rate=1.0), two.pictures(1, rate=1.0), strict=False)
    for fake, real in islice(pairs, PICTURES):
        assert real.colour is not None
        boxes = [face.box * real.colour_scale for face in finder.find(real.colour)]
        boxes = [box for box in boxes if box_size(box) >= 40]
        if not boxes:
            continue
        difference, scale = _difference(fake, real)
        faces, mouths, around = (np.zeros(difference.shape, bool) for _ in range(3))
        for box in boxes:
            middle = (box[1] + box[3]) / 2
            faces[_area(box, scale, 0.9)] = True
            mouths[_area(np.array([box[0], middle, box[2], box[3]]), scale, 0.9)] = True
            around[_area(box, scale, 1.8)] = True
        if not faces.any() or around.all():
            continue
        inside.append(difference[faces].mean())
        outside.append(difference[~around].mean())
        lower.append(difference[faces & mouths].sum())
        upper.append(difference[faces & ~mouths].sum())
        beyond = np.maximum(difference - outside[-1], 0)
        share_in += float(beyond[faces].sum())
        share_all += float(beyond.sum())
    if not inside:
        return {}
    both = float(sum(lower) + sum(upper))
    return {
        "picture_difference": round(float(np.median(inside)), 2),
        "picture_elsewhere": round(float(np.median(outside)), 2),
        "face_share": round(share_in / share_all, 3) if share_all else 0.0,
        "mouth_share": round(float(sum(lower)) / both, 3) if both else 0.0,
    }


def _difference(fake: Picture, real: Picture) -> tuple[np.ndarray, float]:
    """(how far two pictures differ, float32 [h, w] in grey levels; original pixels a pixel)."""
    height, width = real.luma.shape
    factor = min(1.0, HEIGHT / min(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    first, second = (
        cv2.resize(picture.luma, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        for picture in (fake, real)
    )
    # Codecs err pixel by pixel, forgeries over patches.
    return np.abs(cv2.GaussianBlur(first - second, (0, 0), 1.5)), real.scale * width / size[0]


def _area(box: np.ndarray, scale: float, grow: float) -> tuple[slice, slice]:
    """The pixels of `box`, made `grow` times as large about its middle."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    across, down = grow * (box[2] - box[0]) / 2, grow * (box[3] - box[1]) / 2
    left, top, right, bottom = (
        max(0, round(float(v / scale))) for v in (x - across, y - down, x + across, y + down)
    )
    return slice(top, bottom), slice(left, right)
