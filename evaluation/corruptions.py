"""What happens to clips on their way to a detector, each at up to five levels, mild first.

A corruption works on the pictures (uint8 RGB), on the sound (mono float32 at 16 kHz, as detectors
here hear it), or on how the clip is written. Where chance plays a part it is seeded by the clip, so
that the boxes of level 3 are those of level 2 and one more, and a second run makes the same clips.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from avfake.media import Clip
from avfake.types import SAMPLE_RATE, Sound
from evaluation.recording import Recording, rate_of, stills, write

Change = Callable[[np.ndarray], np.ndarray]
"""uint8 RGB [h, w, 3] -> the same shape."""


@dataclass(frozen=True)
class Corruption:
    """One kind of damage.

    `values`: one a level, of the quantity that `unit` names; several kinds have but one level.
    `stream`: "picture" or "sound", which of both it needs and changes. `picture(value, rng)` gives
    what is done to each frame of one clip; `sound(samples, value, rng)` gives as many samples;
    `recording(value)` how the clip is written.
    """

    name: str
    stream: str
    unit: str
    values: tuple[float, ...]
    picture: Callable[[float, np.random.Generator], Change] | None = None
    sound: Callable[[np.ndarray, float, np.random.Generator], np.ndarray] | None = None
    recording: Callable[[float], Recording] = field(default=lambda value: Recording())


def jpeg(quality: float, rng: np.random.Generator) -> Change:
    """Every frame through JPEG."""

    def change(picture: np.ndarray) -> np.ndarray:
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        _, packed = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
        return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR_RGB))

    return change


def blur(sigma: float, rng: np.random.Generator) -> Change:
    """Gaussian blur; `sigma` in pixels of a picture 480 high, whatever the clip's height."""
    return lambda picture: cv2.GaussianBlur(picture, (0, 0), sigma * picture.shape[0] / 480)


def noise(deviation: float, rng: np.random.Generator) -> Change:
    """Gaussian noise, anew in every frame and channel; `deviation` of 255."""

    def change(picture: np.ndarray) -> np.ndarray:
        grain = rng.standard_normal(picture.shape, np.float32) * deviation
        return _bytes(picture + grain)

    return change


def resize(factor: float, rng: np.random.Generator) -> Change:
    """Made smaller by `factor` and brought back to its size."""

    def change(picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        small = (max(1, round(width * factor)), max(1, round(height * factor)))
        return cv2.resize(
            cv2.resize(picture, small, interpolation=cv2.INTER_AREA),
            (width, height),
            interpolation=cv2.INTER_LINEAR,
        )

    return change


def brightness(factor: float, rng: np.random.Generator) -> Change:
    """All values times `factor`: under 1 a picture that had too little light."""
    return lambda picture: _bytes(picture * np.float32(factor))


def contrast(factor: float, rng: np.random.Generator) -> Change:
    """Distances from middle grey times `factor`: under 1 a flat picture."""
    return lambda picture: _bytes((picture - np.float32(128)) * np.float32(factor) + 128)


def saturation(factor: float, rng: np.random.Generator) -> Change:
    """Distances from the pixel's own grey times `factor`: 0 is greyscale, over 1 gaudy."""

    def change(picture: np.ndarray) -> np.ndarray:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
        return _bytes(grey + (picture - grey) * np.float32(factor))

    return change


def rotation(degrees: float, rng: np.random.Generator) -> Change:
    """Tilted counter-clockwise about the middle, with black corners."""

    def change(picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        move = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
        return cv2.warpAffine(picture, move, (width, height))

    return change


def flip(value: float, rng: np.random.Generator) -> Change:
    """Left and right exchanged."""
    return lambda picture: np.ascontiguousarray(picture[:, ::-1])


def text(lines: float, rng: np.random.Generator) -> Change:
    """So many lines of text across the picture, each a twelfth of its height, at random heights."""
    words = ["BREAKING NEWS", "subscribe now", "www.example.com", "LIVE", "@somebody", "watch this"]
    drawn = [
        (words[rng.integers(len(words))], rng.uniform(0, 0.5), rng.uniform(0.1, 1.0))
        for _ in range(int(lines))
    ]

    def change(picture: np.ndarray) -> np.ndarray:
        marked = picture.copy()
        height, width = picture.shape[:2]
        scale = height / 12 / 22  # the font's capitals are 22 pixels high
        for line, left, bottom in drawn:
            corner = (round(left * width), round(bottom * height))
            for colour, thick in (((0, 0, 0), 4), ((255, 255, 255), 1)):
                cv2.putText(
                    marked,
                    line,
                    corner,
                    cv2.FONT_HERSHEY_SIMPLEX,
                    scale,
                    colour,
                    max(1, round(thick * 2 * scale)),
                    cv2.LINE_AA,
                )
        return marked

    return change


def boxes(count: float, rng: np.random.Generator) -> Change:
    """So many filled boxes, each a sixth of the picture's sides, that stand where they are."""
    drawn = [(rng.uniform(0, 5 / 6, 2), rng.integers(0, 256, 3)) for _ in range(int(count))]

    def change(picture: np.ndarray) -> np.ndarray:
        marked = picture.copy()
        height, width = picture.shape[:2]
        for (left, top), colour in drawn:
            x, y = round(left * width), round(top * height)
            marked[y : y + round(height / 6), x : x + round(width / 6)] = colour
        return marked

    return change


def sound_noise(samples: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """White noise, `ratio` dB under the sound's mean power."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    level = np.sqrt(power * 10 ** (-ratio / 10))
    return samples + (rng.standard_normal(len(samples)) * level).astype(np.float32)


def reverb(samples: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A room in which sound falls by 60 dB in `seconds`; direct sound stays where it was.

    The room's answer is noise that decays (Polack's model), of the direct sound's energy at 0.5 s
    and in proportion to `seconds`; the whole is as loud as before.
    """
    count = round(seconds * SAMPLE_RATE)
    tail = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    tail[: round(0.005 * SAMPLE_RATE)] = 0  # no wall is nearer
    tail *= np.sqrt(2 * seconds / np.sum(tail**2))
    tail[0] = 1
    size = 1 << int(len(samples) + count - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)[: len(samples)]
    loudness, now = (np.sqrt(np.mean(np.square(x))) if len(x) else 0.0 for x in (samples, wet))
    return (wet * (loudness / now if now > 0 else 1.0)).astype(np.float32)


def shift(samples: np.ndarray, milliseconds: float, rng: np.random.Generator) -> np.ndarray:
    """The sound that much later (earlier if negative); what leaves is lost, silence comes in."""
    by = round(milliseconds * SAMPLE_RATE / 1000)
    moved = np.zeros_like(samples)
    if by >= 0:
        moved[by:] = samples[: max(0, len(samples) - by)]
    else:
        moved[:by] = samples[-by:]
    return moved


def _same(picture: np.ndarray) -> np.ndarray:
    return picture


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


CORRUPTIONS = {
    one.name: one
    for one in (
        Corruption("recoded", "picture", "as it was", (0,)),
        Corruption(
            "h264", "picture", "CRF", (23, 28, 33, 38, 43), recording=lambda v: Recording(crf=v)
        ),
        Corruption(
            "h265",
            "picture",
            "CRF",
            (28, 33, 38, 43, 48),
            recording=lambda v: Recording(video="libx265", crf=v),
        ),
        Corruption("jpeg", "picture", "quality", (70, 50, 30, 20, 10), jpeg),
        Corruption("blur", "picture", "px of 480", (1, 2, 3, 4, 6), blur),
        Corruption("noise", "picture", "of 255", (5, 10, 20, 30, 45), noise),
        Corruption("resize", "picture", "scale", (0.7, 0.5, 0.4, 0.33, 0.25), resize),
        Corruption(
            "fps",
            "picture",
            "fps",
            (24, 22, 20, 18, 15),
            recording=lambda v: Recording(fps=v),
        ),
        Corruption("brightness", "picture", "factor", (0.8, 0.65, 0.5, 0.35, 0.2), brightness),
        Corruption("contrast", "picture", "factor", (0.8, 0.65, 0.5, 0.35, 0.2), contrast),
        Corruption("saturation", "picture", "factor", (1.3, 1.6, 2, 2.5, 3), saturation),
        Corruption("greyscale", "picture", "no colour", (0,), saturation),
        Corruption("rotation", "picture", "degrees", (3, 6, 10, 15, 25), rotation),
        Corruption("flip", "picture", "mirrored", (1,), flip),
        Corruption("text", "picture", "lines", (1, 2, 4, 6, 10), text),
        Corruption("boxes", "picture", "boxes", (1, 2, 4, 6, 10), boxes),
        Corruption(
            "aac",
            "sound",
            "kbit/s",
            (32, 24, 20, 16, 12),
            recording=lambda v: Recording(audio="aac", bit_rate=round(v * 1000)),
        ),
        Corruption(
            "opus",
            "sound",
            "kbit/s",
            (32, 24, 16, 10, 6),
            recording=lambda v: Recording(audio="libopus", bit_rate=round(v * 1000)),
        ),
        Corruption(
            "mp3",
            "sound",
            "kbit/s",
            (48, 32, 24, 16, 8),
            recording=lambda v: Recording(audio="libmp3lame", bit_rate=round(v * 1000)),
        ),
        Corruption(
            "8khz",
            "sound",
            "8000 samples a second",
            (8000,),
            recording=lambda v: Recording(rate=round(v)),
        ),
        Corruption("sound_noise", "sound", "dB", (30, 20, 15, 10, 5), sound=sound_noise),
        Corruption("reverb", "sound", "s to -60 dB", (0.2, 0.4, 0.6, 0.9, 1.2), sound=reverb),
        Corruption("late", "sound", "ms", (40, 80, 120, 160, 200), sound=shift),
        Corruption("early", "sound", "ms", (-40, -80, -120, -160, -200), sound=shift),
    )
}
"""By name. "recoded" changes nothing: what it does to a score is the price of writing a clip anew,
which all the others pay as well."""


class Source:
    """One clip, read once, to be written in many corrupted ways into `folder`.

    `seed` is the clip's part in all chances. Raises what `Clip` raises.
    """

    def __init__(self, path: Path, folder: Path, seed: int) -> None:
        self.path, self.folder, self.seed = path, folder, seed
        with Clip(path) as clip:
            self.has_picture = clip.has_picture and not clip.info.is_image
            self.sound = clip.sound()

    def lacks(self, corruption: Corruption) -> str | None:
        """Why the corruption has nothing to work on: "no_picture", "no_sound", or None."""
        if corruption.stream == "picture":
            return None if self.has_picture else "no_picture"
        return None if self.sound is not None else "no_sound"

    def corrupted(self, corruption: Corruption, level: int) -> Path:
        """Write the clip so corrupted, level 1 being the first; return the file, which the next
        call overwrites. What the corruption does not concern stays: sound is stored without loss,
        and under a corrupted sound lie the pictures of "recoded".
        """
        value = corruption.values[level - 1]
        rng = np.random.default_rng([self.seed, zlib.crc32(corruption.name.encode())])
        recording = corruption.recording(value)
        out = self.folder / "corrupted.mkv"
        sound = self.sound
        if sound is not None and corruption.sound is not None:
            samples = np.clip(corruption.sound(sound.samples, value, rng), -1, 1)
            sound = Sound(samples, sound.start)
        if corruption.picture is not None:
            self._film(out, recording, corruption.picture(value, rng), sound)
        elif corruption.stream == "picture" and recording != Recording():
            self._film(out, recording, _same, sound)
        else:
            write(out, recording, sound=sound, film=self._recoded)
        return out

    @cached_property
    def _recoded(self) -> Path | None:
        """The pictures, written anew; None where there are none."""
        if not self.has_picture:
            return None
        # Not Matroska, which does not say in which order packets are decoded.
        path = self.folder / "recoded.mp4"
        self._film(path, Recording(), _same, None)
        return path

    def _film(self, out: Path, recording: Recording, change: Change, sound: Sound | None) -> None:
        with Clip(self.path) as clip:
            rate = rate_of(clip, recording)
            pictures = ((time, change(picture)) for time, picture in stills(clip, rate))
            write(out, recording, pictures, rate, sound)
