"""What an answer rests on, as pictures: suspicious faces with heat maps, the sound's spectrum.

Nothing here changes a score. Faces are cut again from the file just as they were for scoring, and
asked about again; pictures are held one at a time.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from avfake.crops import face_crop
from avfake.detector import Detector
from avfake.media import Clip
from avfake.pictures import Picture
from avfake.tracks import SEARCH_EVERY
from avfake.types import FRAME_RATE, SAMPLE_RATE, AvfakeError, Prediction, Sound, Window

SIDE = 256
"""Pixels of a moment's pictures: twice what the branch sees of the same square, for people."""
STILL = 480
"""Longest side of a still, in pixels."""
FULL = 0.9
"""Probability from which a heat map has its full orange, and 1 minus it its full blue."""
FAKE_COLOUR, REAL_COLOUR = (213, 94, 0), (0, 114, 178)
"""RGB of what speaks for a fake and against it: vermilion and blue of Okabe and Ito (2008), which
people with any kind of colour vision tell apart."""
_RATE = FRAME_RATE / SEARCH_EVERY  # pictures a second that the picture branch looks at
_BANDS = 80  # of the mel scale
_WINDOW, _BINS = 640, 1024  # samples of a spectrum (40 ms), and of its transform
_RANGE = 70.0  # dB from the loudest to the darkest
_SPECTRA_A_JOB = 1024

Pathlike = str | os.PathLike[str]


@dataclass(frozen=True)
class Moment:
    """One look of the picture branch at one face.

    `time`: seconds; `logit`: calibrated log-odds of this crop alone; `crop`: uint8 RGB
    [SIDE, SIDE, 3], the square that was judged; `heat`: the same in grey, and over it how each
    region was judged: orange where it speaks for a fake, blue where for a real face, the more the
    surer. A region's colour is the answer for a face that looks everywhere as this one does there
    (see `VisualBranch.explain`), on the same scale for all moments of all clips.
    """

    track: int
    time: float
    logit: float
    crop: np.ndarray
    heat: np.ndarray


@dataclass(frozen=True)
class Still:
    """A whole picture of the clip: `time` in seconds, `picture` uint8 RGB [h, w, 3]."""

    time: float
    picture: np.ndarray


def moments(
    path: Pathlike, prediction: Prediction, detector: Detector, count: int = 6
) -> tuple[Moment, ...]:
    """The most suspicious looks of the picture branch, worst first; at most `count`.

    Every face's worst second comes before the second one of any face, and seconds of one face lie
    apart. Empty where the picture branch has no answer. Raises what opening the clip raises.
    """
    found, _ = moments_and_stills(path, prediction, detector, count, ())
    return found


def moments_and_stills(
    path: Pathlike,
    prediction: Prediction,
    detector: Detector,
    count: int,
    times: Sequence[float],
) -> tuple[tuple[Moment, ...], tuple[Still, ...]]:
    """`moments`, and the picture nearest to each of `times` (rising), from decoding once.

    A still has the faces that were judged framed in white; its longest side is STILL pixels at
    most. Times beyond the last picture get none.
    """
    picked = _picked(_windows(prediction), count)
    last = max([*(window.end for window in picked), *times], default=None)
    if last is None:
        return (), ()
    best: dict[Window, Moment] = {}
    stills: list[Still] = []
    for picture in _pictures(path, detector):
        if picture.time > last + 1.0:
            break
        faces = _faces(prediction, picture)
        while len(stills) < len(times) and times[len(stills)] <= picture.time + 0.5 / _RATE:
            stills.append(Still(picture.time, _still(picture, [box for _, box in faces])))
        for track, box in faces:
            for window in picked:
                if window.track != track or int(window.start) != int(picture.time):
                    continue
                moment = _moment(detector, track, picture, box)
                if window not in best or moment.logit > best[window].logit:
                    best[window] = moment
    return tuple(sorted(best.values(), key=lambda moment: -moment.logit)), tuple(stills)


def moment_at(
    path: Pathlike, prediction: Prediction, detector: Detector, track: int, time: float
) -> Moment:
    """The look at face `track` that is nearest to `time` seconds.

    Raises AvfakeError `no_such_face` where that face was never looked at, and what opening the
    clip raises.
    """
    nearest = None
    if any(window.track == track for window in _windows(prediction)):
        for picture in _pictures(path, detector):
            box = dict(_faces(prediction, picture)).get(track)
            if box is None:
                continue
            if nearest is not None and abs(picture.time - time) >= abs(nearest[0].time - time):
                break
            nearest = picture, box
    if nearest is None:
        raise AvfakeError("no_such_face", f"No face {track} was judged in this clip.")
    return _moment(detector, track, *nearest)


def spectrogram(sound: Sound, width: int, height: int) -> np.ndarray:
    """The sound's log-mel spectrum over its whole length: uint8 RGB [height, width, 3].

    Low tones are below (see `pitch`); 70 dB, from the loudest down, go from bright to dark in
    cividis (Nuñez et al. 2018), which people with any kind of colour vision read alike.
    """
    bands = _mel_bands()
    shape = np.hanning(_WINDOW).astype(np.float32)
    # Every sample counts once the clip is long: as many spectra a column as lie side by side.
    span = len(sound.samples) / width
    each = max(1, int(np.ceil(span / (_WINDOW / 2))))
    parts = []
    step = max(1, _SPECTRA_A_JOB // each)
    for first in range(0, width, step):
        columns = np.arange(first, min(width, first + step))
        centres = (columns[:, None] + (np.arange(each) + 0.5) / each) * span
        frames = _around(sound.samples, centres.reshape(-1).astype(np.int64)) * shape
        power = np.square(np.abs(np.fft.rfft(frames, _BINS))).astype(np.float32)
        parts.append((power @ bands).reshape(len(columns), each, -1).mean(1))
    level = 10 * np.log10(np.concatenate(parts).T[::-1] + 1e-9)
    level = cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR)
    # A floor for the loudest, or the noise of an empty channel would glow.
    level = 1 + (level - max(float(level.max()), 0.0)) / _RANGE
    grey = (255 * np.clip(level, 0, 1)).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_CIVIDIS), cv2.COLOR_BGR2RGB)


def pitch(frequency: float) -> float:
    """Where a frequency (Hz, 0 to 8000) stands in a spectrogram: 0 at the bottom, 1 at the top."""
    return float(_mel(frequency) / _mel(SAMPLE_RATE / 2))


def waveform(sound: Sound, columns: int) -> np.ndarray:
    """float32 [columns, 2]: the lowest and the highest sample of each column, in [-1, 1]."""
    count = len(sound.samples)
    if not count:
        return np.zeros((columns, 2), np.float32)
    starts = np.arange(columns, dtype=np.int64) * count // columns
    low, high = (end.reduceat(sound.samples, starts) for end in (np.minimum, np.maximum))
    return np.stack([low, high], 1).astype(np.float32)


def encode_png(picture: np.ndarray) -> bytes:
    """uint8 RGB [h, w, 3] as PNG."""
    return _encoded(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 6])


def encode_jpeg(picture: np.ndarray, quality: int = 88) -> bytes:
    """uint8 RGB [h, w, 3] as JPEG."""
    return _encoded(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])


def _encoded(kind: str, picture: np.ndarray, options: Sequence[int]) -> bytes:
    ok, data = cv2.imencode(kind, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not ok:
        raise ValueError(f"OpenCV cannot write {picture.shape} as {kind}")
    return data.tobytes()


def _windows(prediction: Prediction) -> tuple[Window, ...]:
    score = prediction.branches.get("visual")
    return () if score is None else score.windows


def _picked(windows: Sequence[Window], count: int) -> list[Window]:
    """Up to `count` windows: each face's worst, then the worst that lie apart from those."""
    if not windows:
        return []
    ordered = sorted(windows, key=lambda window: -window.logit)
    span = max(w.end for w in windows) - min(w.start for w in windows)
    apart = max(1.0, span / (2 * count))
    worst = {window.track: window for window in reversed(ordered)}
    chosen = sorted(worst.values(), key=lambda window: -window.logit)[:count]
    for window in ordered:
        if len(chosen) >= count:
            break
        near = (w for w in chosen if w.track == window.track)
        if all(abs(w.start - window.start) > apart - 1e-6 for w in near):
            chosen.append(window)
    return chosen


def _pictures(path: Pathlike, detector: Detector) -> Iterator[Picture]:
    """The pictures that the picture branch looked at, in colour, one after the other."""
    with Clip(path, limits=detector.limits) as clip:
        # Those in between, which only tracking needs, are not converted.
        yield from clip.pictures(1, _RATE)


def _faces(prediction: Prediction, picture: Picture) -> list[tuple[int, np.ndarray]]:
    """(track, box in pixels of `picture.colour`) of each face that was followed there."""
    found = []
    for track in prediction.tracks:
        nearest = int(np.searchsorted(track.times, picture.time - 0.5 / FRAME_RATE))
        if nearest < len(track.times) and track.times[nearest] <= picture.time + 0.5 / FRAME_RATE:
            found.append((track.index, track.boxes[nearest] / picture.colour_scale))
    return found


def _moment(detector: Detector, track: int, picture: Picture, box: np.ndarray) -> Moment:
    colour = _colour(picture)
    logit, leaning = detector.visual.explain(face_crop(colour, box, detector.visual.size))
    crop = face_crop(colour, box, SIDE)
    return Moment(track, picture.time, logit, crop, _heated(crop, leaning))


def _still(picture: Picture, boxes: Sequence[np.ndarray]) -> np.ndarray:
    colour = _colour(picture)
    factor = min(1.0, STILL / max(colour.shape[:2]))
    height, width = (max(1, round(side * factor)) for side in colour.shape[:2])
    small = cv2.resize(colour, (width, height), interpolation=cv2.INTER_AREA)
    for box in boxes:
        left, top, right, bottom = (round(float(value) * factor) for value in box)
        for grey, thick in ((0, 3), (255, 1)):  # white on black: seen on any background
            cv2.rectangle(small, (left, top), (right, bottom), [grey] * 3, thick, cv2.LINE_AA)
    return small


def _colour(picture: Picture) -> np.ndarray:
    if picture.colour is None:
        raise ValueError("this picture has no colour")
    return picture.colour


def _heated(crop: np.ndarray, leaning: np.ndarray) -> np.ndarray:
    """uint8 [s, s, 3] in grey, with float32 [h, w] log-odds laid over it in colour."""
    side = crop.shape[0]
    smooth = cv2.resize(leaning, (side, side), interpolation=cv2.INTER_CUBIC)
    sure = np.clip(smooth / np.log(FULL / (1 - FULL)), -1, 1)[..., None]
    grey = np.repeat(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    fake, real = np.array(FAKE_COLOUR, np.float32), np.array(REAL_COLOUR, np.float32)
    # Shaded by the face, so that what is judged shows through the surest colour.
    colour = np.where(sure > 0, fake, real) * (0.55 + grey / 512)
    cover = 0.8 * np.abs(sure)
    return np.rint(grey * (1 - cover) + colour * cover).astype(np.uint8)


def _around(samples: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """float32 [n, _WINDOW]: the samples round each centre, zeros beyond the sound's ends."""
    index = centres[:, None] + np.arange(-_WINDOW // 2, _WINDOW // 2)
    inside = (index >= 0) & (index < len(samples))
    if not len(samples):
        return np.zeros(index.shape, np.float32)
    return samples[np.clip(index, 0, len(samples) - 1)] * inside


def _mel(frequency: float) -> float:
    """O'Shaughnessy (1987)."""
    return 2595 * float(np.log10(1 + frequency / 700))


def _mel_bands() -> np.ndarray:
    """float32 [_BINS / 2 + 1, _BANDS]: triangles evenly spaced on the mel scale, each of sum 1."""
    edges = np.linspace(0, _mel(SAMPLE_RATE / 2), _BANDS + 2)
    edges = 700 * (10 ** (edges / 2595) - 1)
    bins = np.fft.rfftfreq(_BINS, 1 / SAMPLE_RATE)
    bands = []
    for (low, middle), (_, high) in itertools.pairwise(itertools.pairwise(edges)):
        rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
        band = np.clip(np.minimum(rising, falling), 0, None)
        bands.append(band / max(band.sum(), 1e-9))
    return np.array(bands, np.float32).T
