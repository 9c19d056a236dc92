"""A fake beside its original: was the sound exchanged, was the picture changed, and where?

For sets that give a fake one label and name its original (DFDC). Both clips are decoded and laid on
one another:

- sound: after the best shift (codecs delay it) and level, what is left of the original when the
  fake is subtracted, in dB below the original, second by second; the median counts. A re-encoded
  voice leaves little, another voice as much as there was.
- picture: one picture a second; how far the grey levels in the original's faces differ, in the
  upper or the lower half, whichever does more, against how far the most different twentieth of all
  else does, which is what the codec does to edges and texture.

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
    "sound_changed": "share of the seconds whose residual is above OTHER_SOUND",
    "sound_shift_ms": "by how much the fake's sound is later than the original's",
    "picture_difference": "mean difference in the more different half of the faces, of 255 levels",
    "picture_elsewhere": "the difference that a twentieth of all else exceeds",
    "face_share": "share of all difference, beyond the mean elsewhere, that lies in the faces",
    "mouth_share": "share of the faces' difference that lies in their lower half",
    "compared": "ok, or why nothing was compared",
}
SAME_SOUND, OTHER_SOUND = -6.0, -3.0
"""dB; what lies between is unknown. Speech that went through AAC again measured -7.9 to -9.7 at 24
kbit/s and -19 to -30 at 64, through Opus and MP3 -12 to -33; other speech 0."""
SAME_PICTURE, OTHER_PICTURE = 0.75, 1.15
"""Times the difference elsewhere. Talking clips through x264 at CRF 23 to 36 measured 0.41 to 1.01,
faces warped by 6% in the same way 0.72 to 11."""
FAINT, VISIBLE = 1.0, 1.5  # grey levels: below there is no change, above there may be one
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
            if error.reason == "not_found":
                raise  # both were there when the run began
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
    audio, visual = sound_label(heard), picture_label(seen)
    # Something was forged: where one of the two surely was not, it was the other.
    if (audio, visual) == (0, 0):
        audio = visual = None
        row["compared"] = "no_difference"
    elif audio == 0:
        visual = 1
    elif visual == 0 and heard:
        audio = 1
    # Swapped faces keep the mouth's movement; whether an exchanged voice fits it nobody says.
    row |= {
        "label_visual": visual,
        "label_audio": audio,
        "label_lipsync": 0 if audio == 0 else None,
    }
    return row


def sound_label(heard: dict[str, float]) -> int | None:
    """Whether the sound was exchanged, by what `compare` measured; None where that is not clear."""
    if not heard:
        return None
    if heard["sound_difference_db"] > OTHER_SOUND:
        return 1
    same = heard["sound_difference_db"] < SAME_SOUND and heard["sound_changed"] < 0.1
    return 0 if same else None


def picture_label(seen: dict[str, float]) -> int | None:
    """Whether the picture was changed, by what `compare` measured; None where that is not clear."""
    if not seen:
        return None
    inside, elsewhere = seen["picture_difference"], seen["picture_elsewhere"]
    if inside < FAINT or inside < SAME_PICTURE * elsewhere:
        return 0
    return 1 if inside > VISIBLE and inside > OTHER_PICTURE * elsewhere else None


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
        "sound_changed": round(float(np.mean(np.array(loud) > OTHER_SOUND)), 3),
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
    inside, outside = [], []
    of_mouths = of_faces = in_faces = anywhere = 0.0
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
        halves = [difference[half] for half in (faces & mouths, faces & ~mouths)]
        if around.all() or not all(len(half) for half in halves):
            continue
        rest = difference[~around]
        inside.append(max(half.mean() for half in halves))
        outside.append(np.quantile(rest, 0.95))
        of_mouths += float(halves[0].sum())
        of_faces += float(sum(half.sum() for half in halves))
        beyond = np.maximum(difference - rest.mean(), 0)
        in_faces += float(beyond[faces].sum())
        anywhere += float(beyond.sum())
    if not inside:
        return {}
    return {
        "picture_difference": round(float(np.median(inside)), 2),
        "picture_elsewhere": round(float(np.median(outside)), 2),
        "face_share": round(in_faces / max(anywhere, 1e-9), 3),
        "mouth_share": round(of_mouths / max(of_faces, 1e-9), 3),
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
