"""Make `examples/sample.mp4`: a portrait that is made to talk by this script.

    python examples/make_sample.py examples/sample.mp4

The face is the portrait of astronaut Eileen Collins (NASA, public domain) that scikit-image
carries; the voice is a formant synthesiser of a few dozen lines (after Klatt 1980); the mouth opens
with the voice's loudness. So the clip is a fake by construction, if one that fools nobody, and it
may be shared freely. Needs the `dev` extra.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from scipy.signal import lfilter
from skimage import data

RATE = 16_000  # Hz
FPS = 25
SIZE = 384  # pixels
MOUTH = (222.0, 147.0)  # the mouth's middle in the 512 px portrait: x, y

# Phones: formants in Hz, voiced loudness, noise loudness, seconds.
PHONES: dict[str, tuple[tuple[float, float, float], float, float, float]] = {
    "a": ((730, 1090, 2440), 1.0, 0.0, 0.14),
    "e": ((530, 1840, 2480), 0.9, 0.0, 0.12),
    "i": ((300, 2290, 3010), 0.8, 0.0, 0.12),
    "o": ((570, 840, 2410), 0.9, 0.0, 0.14),
    "u": ((320, 870, 2240), 0.7, 0.0, 0.12),
    "l": ((360, 1300, 2700), 0.6, 0.0, 0.07),
    "m": ((250, 1100, 2100), 0.35, 0.0, 0.08),
    "r": ((420, 1300, 1600), 0.6, 0.0, 0.07),
    "s": ((2500, 4800, 6500), 0.0, 0.25, 0.10),
    "f": ((1200, 3000, 6000), 0.0, 0.12, 0.09),
    "t": ((1800, 3200, 5200), 0.0, 0.30, 0.03),
    "_": ((500, 1500, 2500), 0.0, 0.0, 0.05),
    " ": ((500, 1500, 2500), 0.0, 0.0, 0.22),
}
TEXT = "_helo miselfa_tolati mofa resalo_to ame tolimaru fo alisema_ite amo rosela_ta_mo relise"


def speech(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """float32 [n] in [-1, 1] at 16 kHz: nonsense words from PHONES, over and over."""
    count = round(seconds * RATE)
    formants, voiced, noise = np.zeros((3, count)), np.zeros(count), np.zeros(count)
    position, letters = round(0.15 * RATE), [c for c in TEXT if c in PHONES]
    index = 0
    while position < count - round(0.25 * RATE):
        target, loud, hiss, length = PHONES[letters[index % len(letters)]]
        stop = min(count, position + round(length * RATE * rng.uniform(0.9, 1.2)))
        for row, hertz in enumerate(target):
            formants[row, position:stop] = hertz
        voiced[position:stop], noise[position:stop] = loud, hiss
        position, index = stop, index + 1
    smooth = np.hanning(round(0.05 * RATE))
    smooth /= smooth.sum()
    voiced, noise = (np.convolve(v, smooth, "same") for v in (voiced, noise))
    formants[formants == 0] = 500
    formants = np.stack([np.convolve(f, smooth, "same") for f in formants])
    time = np.arange(count) / RATE
    pitch = 185 + 25 * np.sin(2 * np.pi * 0.45 * time) + 6 * np.sin(2 * np.pi * 5.1 * time)
    phase = np.cumsum(pitch / RATE)
    pulses = np.diff(np.floor(phase), prepend=0)
    source = lfilter([1], [1, -0.97], pulses) * 0.25 * voiced
    source += rng.normal(size=count) * noise * 0.35
    sound = np.zeros(count)
    for row, width in enumerate((80, 110, 160)):
        sound += _resonate(source, formants[row], width) / (row + 1)
    sound = sound / np.abs(sound).max() * 0.6
    return (sound + rng.normal(size=count) * 0.002).astype(np.float32)


def _resonate(source: np.ndarray, hertz: np.ndarray, width: float) -> np.ndarray:
    """A two-pole resonator whose frequency moves every 5 ms."""
    out, state, step = np.zeros_like(source), np.zeros(2), RATE // 200
    radius = np.exp(-np.pi * width / RATE)
    for first in range(0, len(source), step):
        angle = 2 * np.pi * min(hertz[min(first, len(hertz) - 1)], 7000) / RATE
        poles = [1, -2 * radius * np.cos(angle), radius**2]
        gain = (1 - radius) * np.sqrt(1 - 2 * radius * np.cos(2 * angle) + radius**2)
        part = slice(first, first + step)
        out[part], state = lfilter([gain], poles, source[part], zi=state)
    return out


def picture(portrait: np.ndarray, opening: float, time: float) -> np.ndarray:
    """uint8 RGB [SIZE, SIZE, 3]: the portrait, its jaw lowered by `opening` (0 to 1), swaying."""
    rows, columns = np.mgrid[0:512, 0:512].astype(np.float32)
    across = np.exp(-(((columns - MOUTH[0]) / 20) ** 2))
    below = rows - MOUTH[1]
    drop = 11 * opening * across * np.clip(below / 3, 0, 1) * np.exp(-np.clip(below, 0, None) / 38)
    moved = cv2.remap(portrait, columns, rows - drop.astype(np.float32), cv2.INTER_LINEAR)
    inside = np.exp(-(((columns - MOUTH[0]) / 14) ** 2) - ((below - 5 * opening) / 4) ** 2)
    dark = (np.clip(inside * opening * 1.1, 0, 0.85))[..., None]
    moved = (moved * (1 - dark) + np.array([50, 14, 12]) * dark).astype(np.uint8)
    scale = SIZE / 330 * (1 + 0.01 * np.sin(time * 1.1))
    centre = (218 + 3 * np.sin(time * 0.9), 170 + 2 * np.cos(time * 1.3))
    sway = cv2.getRotationMatrix2D(centre, 1.5 * np.sin(time * 0.7), scale)
    sway[:, 2] += SIZE / 2 - np.array(centre)
    return cv2.warpAffine(
        moved, sway, (SIZE, SIZE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
    )


def make_sample(path: Path, seconds: float = 6.0, seed: int = 7) -> None:
    """Write the clip: H.264 and AAC in MP4."""
    rng = np.random.default_rng(seed)
    portrait = data.astronaut()
    sound = speech(seconds, rng)
    frames = round(seconds * FPS)
    loudness = np.sqrt([np.mean(part**2) for part in np.array_split(sound, frames)])
    opening = np.convolve(np.clip(loudness / np.quantile(loudness, 0.95), 0, 1), [0.25, 0.5, 0.25])
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as out:
        video = out.add_stream("libx264", rate=FPS, options={"crf": "27", "preset": "slow"})
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        audio = out.add_stream("aac", rate=RATE, layout="mono")
        audio.bit_rate = 48_000
        for index in range(frames):
            image = picture(portrait, float(opening[index + 1]), index / FPS)
            noisy = np.clip(image + rng.normal(0, 1.5, image.shape), 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(noisy, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        wave = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        wave.sample_rate, wave.pts = RATE, 0
        out.mux(audio.encode(wave))
        out.mux(audio.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    make_sample(parser.parse_args().path)


if __name__ == "__main__":
    main()
