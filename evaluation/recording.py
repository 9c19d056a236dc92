"""Clips are written: pictures and sound into a file, as like the original as can be.

Decoding stays with `avfake.media`; what it gives, on the clip's clock, is what is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np

from avfake.media import Clip
from avfake.types import FRAME_RATE, SAMPLE_RATE, Sound

CLOCK = Fraction(1, 90_000)
FASTEST = 60.0  # pictures a second; a header that claims more is wrong
Still = tuple[float, np.ndarray]
"""Seconds on the clip's clock, and uint8 RGB [h, w, 3]."""


@dataclass(frozen=True)
class Recording:
    """How a clip is written. The defaults change as little as can be: H.264 that nobody tells from
    the original, sound without loss.
    """

    video: str = "libx264"
    crf: float = 10
    fps: float | None = None  # pictures a second at most; None: as in the clip
    audio: str = "flac"
    bit_rate: int | None = None  # bit/s of the sound
    rate: int = SAMPLE_RATE  # Hz


def rate_of(clip: Clip, recording: Recording) -> float:
    """Pictures a second to write: the clip's, where the recording does not want fewer."""
    rate = min(clip.info.fps or FRAME_RATE, FASTEST)
    return rate if recording.fps is None else min(rate, recording.fps)


def stills(clip: Clip, rate: float) -> Iterator[Still]:
    """All pictures, upright, at `rate` a second; longest side at most 1920 pixels."""
    for picture in clip.pictures(1, rate):
        assert picture.colour is not None
        yield picture.time, picture.colour


def write(
    path: Path,
    recording: Recording,
    pictures: Iterable[Still] = (),
    rate: float = FRAME_RATE,
    sound: Sound | None = None,
    film: Path | None = None,
) -> None:
    """Write a file, of the kind that its ending says, of `pictures` and `sound`.

    Instead of `pictures` those of `film` are taken, an MP4 file, as they are. Matroska holds all
    codecs; times stay as they are, in it to the millisecond.
    """
    frames = iter(pictures)
    first = next(frames, None)
    # Sound is written first and waits for the pictures, for it takes less room.
    options = {"max_interleave_delta": "0"}
    with ExitStack() as stack:
        out = stack.enter_context(av.open(str(path), "w", options=options))
        given: Any = None
        video: Any = None
        if film is not None:
            given = stack.enter_context(av.open(str(film)))
            video = out.add_stream_from_template(given.streams.video[0])
            video.codec_context.framerate = given.streams.video[0].average_rate
        elif first is not None:
            video = _picture_stream(out, recording, rate, first[1])
        if sound is not None:
            _write_sound(out, _sound_stream(out, recording), sound)
        if given is not None:
            for packet in given.demux(given.streams.video[0]):
                if packet.size:  # the last one is empty
                    packet.stream = video
                    out.mux(packet)
        elif first is not None:
            _write_pictures(out, video, chain([first], frames))


def _picture_stream(out: Any, recording: Recording, rate: float, picture: np.ndarray) -> Any:
    options = {"crf": f"{recording.crf:g}", "preset": "veryfast"}
    if recording.video == "libx265":
        options["x265-params"] = "log-level=none"
    stream = out.add_stream(
        recording.video, rate=Fraction(rate).limit_denominator(1001), options=options
    )
    stream.height, stream.width = picture.shape[:2]
    # Colour at half the resolution needs sides that can be halved.
    even = stream.height % 2 == 0 and stream.width % 2 == 0
    stream.pix_fmt = "yuv420p" if even else "yuv444p"
    stream.codec_context.time_base = CLOCK
    stream.codec_context.color_range = 1  # studio range
    stream.codec_context.colorspace = 6  # BT.601, as the frames below are converted
    return stream


def _write_pictures(out: Any, stream: Any, pictures: Iterable[Still]) -> None:
    for time, picture in pictures:
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format=stream.pix_fmt, dst_colorspace="ITU601", dst_color_range="MPEG"
        )
        frame.time_base = CLOCK
        frame.pts = round(time / CLOCK)
        out.mux(stream.encode(frame))
    out.mux(stream.encode())


def _sound_stream(out: Any, recording: Recording) -> Any:
    stream = out.add_stream(recording.audio, rate=recording.rate, layout="mono")
    if recording.bit_rate is not None:
        stream.bit_rate = recording.bit_rate
    stream.codec_context.open()
    return stream


def _write_sound(out: Any, stream: Any, sound: Sound) -> None:
    codec = stream.codec_context
    wave = av.AudioFrame.from_ndarray(sound.samples[None], format="fltp", layout="mono")
    wave.sample_rate = SAMPLE_RATE
    wave.time_base = Fraction(1, SAMPLE_RATE)
    wave.pts = round(sound.start * SAMPLE_RATE)
    resampler = av.AudioResampler(
        codec.format, codec.layout, codec.sample_rate, frame_size=codec.frame_size or None
    )
    for part in (*resampler.resample(wave), *resampler.resample(None)):
        out.mux(stream.encode(part))
    out.mux(stream.encode())
