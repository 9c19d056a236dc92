"""Media made on the spot: tests write the very clip they ask about, with PyAV and numpy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from skimage import data

CLOCK = Fraction(1, 90_000)


def write_clip(
    path: Path,
    frames: Iterable[np.ndarray] | None = None,
    fps: float = 25,
    times: Sequence[float] | None = None,
    sound: np.ndarray | None = None,
    sound_rate: int = 16_000,
    sound_start: float = 0.0,
    video_codec: str = "libx264",
    audio_codec: str = "aac",
    pix_fmt: str = "yuv420p",
    full_range: bool = False,
    rotation: int = 0,
) -> Path:
    """Write a clip and return its path.

    `frames`: uint8 RGB [h, w, 3] each, h and w even; `times`: their seconds, instead of `fps`.
    `sound`: float [n] mono at `sound_rate`, its first sample at `sound_start` seconds.
    `rotation`: degrees counter-clockwise that a player turns the picture by.
    """
    # The index first, as on the web, so that a clip cut short can still be read.
    first = {"movflags": "+faststart"} if path.suffix in (".mp4", ".mov", ".m4a") else {}
    with av.open(str(path), "w", options=first) as out:
        video = audio = None
        pictures: list[np.ndarray] = [] if frames is None else list(frames)
        if pictures:
            rate = Fraction(fps).limit_denominator(1001)
            video = out.add_stream(video_codec, rate=rate, options=_video_options(video_codec))
            video.height, video.width = pictures[0].shape[:2]
            video.pix_fmt = pix_fmt
            video.codec_context.time_base = CLOCK if times is not None else 1 / rate
            video.codec_context.color_range = 2 if full_range else 1
            if rotation:
                video.set_display_rotation(rotation)
        if sound is not None:
            audio = out.add_stream(audio_codec, rate=sound_rate, layout="mono")
        if video is not None:
            for index, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame = frame.reformat(
                    format=pix_fmt,
                    dst_colorspace="ITU601",
                    dst_color_range="JPEG" if full_range else "MPEG",
                )
                frame.time_base = video.codec_context.time_base
                frame.pts = index if times is None else round(float(times[index]) / frame.time_base)
                out.mux(video.encode(frame))
            out.mux(video.encode())
        if audio is not None and sound is not None:
            wave = av.AudioFrame.from_ndarray(
                np.asarray(sound, np.float32)[None], format="fltp", layout="mono"
            )
            wave.sample_rate = sound_rate
            wave.time_base = Fraction(1, sound_rate)
            wave.pts = round(sound_start * sound_rate)
            _encode_sound(out, audio, wave)
    return path


def _encode_sound(out: Any, stream: Any, wave: av.AudioFrame) -> None:
    """Encode a whole sound, in the format that the codec takes."""
    resampler = av.AudioResampler(
        stream.codec_context.format, stream.codec_context.layout, stream.codec_context.sample_rate
    )
    for part in resampler.resample(wave):
        out.mux(stream.encode(part))
    for part in resampler.resample(None):
        out.mux(stream.encode(part))
    out.mux(stream.encode())


def _video_options(codec: str) -> dict[str, str]:
    return {
        "libx264": {"crf": "12", "preset": "veryfast"},
        "libvpx-vp9": {"crf": "10", "b": "0", "deadline": "realtime", "cpu-used": "8"},
    }.get(codec, {})


def remux(source: Path, path: Path, sound_delay: float = 0.0, with_sound: bool = True) -> Path:
    """The same streams in a new file, its sound `sound_delay` seconds later; nothing re-encoded."""
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        kept = [given.streams.video[0], *(given.streams.audio[:1] if with_sound else ())]
        streams = {stream.index: out.add_stream_from_template(stream) for stream in kept}
        for packet in given.demux(*kept):
            if packet.dts is None:
                continue
            if packet.stream.type == "audio":
                shift = round(sound_delay / packet.time_base)
                packet.pts += shift
                packet.dts += shift
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    return path


def portrait() -> np.ndarray:
    """uint8 RGB [300, 300, 3]: head and shoulders of Eileen Collins (NASA, public domain)."""
    return data.astronaut()[0:300, 70:370].copy()


FACE_IN_PORTRAIT = np.array([110.0, 63.0, 200.0, 177.0])
"""Her face there in the common box convention (YuNet's): mid-forehead to chin, ear to ear."""


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 RGB [height, width, 3]: soft blobs of all greys, in which nobody sees a face."""
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 216, (height // 24 + 1, width // 24 + 1, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def moving_portrait(
    count: int, fps: float, size: tuple[int, int] = (480, 640), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A portrait gliding and growing over a background.

    Returns uint8 frames [count, *size, 3] and the face's true boxes, float64 [count, 4].
    """
    background, head = texture(*size, seed), portrait()
    frames, boxes = [], []
    for index in range(count):
        time = index / fps
        scale = 0.85 + 0.15 * np.sin(1.1 * time)
        x = 40 + 110 * (1 - np.cos(0.9 * time)) + 20 * np.sin(2.3 * time)
        y = 40 + 60 * np.sin(0.7 * time) ** 2
        move = np.array([[scale, 0, x], [0, scale, y]])
        frames.append(
            cv2.warpAffine(
                head,
                move,
                size[::-1],
                background.copy(),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_TRANSPARENT,
            )
        )
        boxes.append(FACE_IN_PORTRAIT * scale + [x, y, x, y])
    return np.array(frames), np.array(boxes)


def beeps(
    seconds: float, times: Sequence[float], rate: int = 16_000, length: float = 0.02
) -> np.ndarray:
    """float32 [n]: silence with a short 1 kHz beep that begins at each of `times`."""
    sound = np.zeros(round(seconds * rate), np.float32)
    wave = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(round(length * rate)) / rate)
    for time in times:
        first = round(time * rate)
        sound[first : first + len(wave)] = wave[: len(sound) - first]
    return sound


def grey_frames(levels: Sequence[float], size: tuple[int, int] = (64, 64)) -> list[np.ndarray]:
    """One plain grey frame a level."""
    return [np.full((*size, 3), round(float(level)), np.uint8) for level in levels]
