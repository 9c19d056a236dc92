"""Whether browsers can play a clip as it is, and a preview of it where they cannot.

A preview is what the detector saw and heard, 25 pictures a second and mono sound on the clip's own
clock, so that boxes and scores lie where they belong. It is only looked at: scores come from the
original.
"""

from __future__ import annotations

import contextlib
import logging
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from avfake.container import CONTAINERS
from avfake.media import Clip
from avfake.serve.work import Playback
from avfake.types import FRAME_RATE, SAMPLE_RATE, MediaInfo

PREVIEW_SECONDS = 600.0
"""A preview shows this much of the clip's beginning."""
PREVIEW_SIDE = 854
"""Pixels of a preview's longest side."""
_CLOCK = Fraction(1, 90_000)
_VIDEO = {"h264", "vp8", "vp9", "av1"}
_SOUND = {"aac", "mp3", "opus", "vorbis", "flac"}
_PIXELS = {"yuv420p", "yuvj420p"}
_SIGNS = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"BM": "image/bmp",
    b"RIFF": "image/webp",
}

log = logging.getLogger(__name__)


def playback_of(path: Path, info: MediaInfo) -> Playback | None:
    """How to play a clip that was judged; None where nothing of it plays."""
    with open(path, "rb") as file:
        head = file.read(4096)
        if info.is_image:
            return Playback("image", next(t for sign, t in _SIGNS.items() if head.startswith(sign)))
        kind = "audio" if info.video_codec is None else "video"
        file.seek(0)
        try:
            return Playback(kind, _playable(file, head, kind))
        except Exception as error:  # whatever it is, the answer does not depend on it
            log.debug("%s: %s", path, error)
            return None


def _playable(file: object, head: bytes, kind: str) -> str | None:
    """The media type under which browsers play this file, if they do."""
    options = {"format_whitelist": CONTAINERS}
    with av.open(file, options=options, metadata_errors="replace") as container:
        video = next(iter(container.streams.video), None) if kind == "video" else None
        audio = next(iter(container.streams.audio), None)
        if any(s is not None and s.codec_context is None for s in (video, audio)):
            return None  # what is judged is another stream, or the preview is silent
        formats = set(container.format.name.split(","))
        picture = None if video is None else video.codec_context.codec.canonical_name
        sound = None if audio is None else audio.codec_context.codec.canonical_name
        pixels = None if video is None else video.codec_context.pix_fmt
    if picture is not None and (picture not in _VIDEO or pixels not in _PIXELS):
        return None
    if "mp4" in formats:
        fits = picture in (None, "h264", "vp9", "av1") and sound in (None, *_SOUND - {"vorbis"})
        return f"{kind}/mp4" if fits else None
    if "webm" in formats:
        fits = b"webm" in head[:64] and picture != "h264" and sound in (None, "opus", "vorbis")
        return f"{kind}/webm" if fits else None
    if kind == "video":
        return None
    return {
        ("wav", "pcm_s16le"): "audio/wav",
        ("wav", "pcm_s24le"): "audio/wav",
        ("wav", "pcm_u8"): "audio/wav",
        ("wav", "pcm_f32le"): "audio/wav",
        ("flac", "flac"): "audio/flac",
        ("mp3", "mp3"): "audio/mpeg",
        ("ogg", "vorbis"): "audio/ogg",
        ("ogg", "opus"): "audio/ogg",
        ("aac", "aac"): "audio/aac",
    }.get((next(iter(formats)), sound or ""))


def write_preview(path: Path, out: Path) -> None:
    """Write a small MP4 (H.264 and AAC) of a clip's beginning; `out` is there once it is whole.

    Raises AvfakeError where the clip cannot be opened, and what the encoder raises.
    """
    part = out.with_suffix(".part")
    with contextlib.ExitStack() as stack:
        clip = stack.enter_context(Clip(path, PREVIEW_SECONDS))
        target = stack.enter_context(
            av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"})
        )
        _encode(clip, target)
    os.replace(part, out)


def _encode(clip: Clip, target: av.container.OutputContainer) -> None:
    sound = clip.sound()
    pictures = clip.pictures(colour_every=1)
    first = next(pictures, None)
    video = audio = None
    if first is not None and first.colour is not None:
        high, wide = first.colour.shape[:2]
        shrink = min(1.0, PREVIEW_SIDE / max(high, wide))
        size = tuple(max(2, round(side * shrink) // 2 * 2) for side in (wide, high))
        video = target.add_stream("libx264", rate=round(FRAME_RATE))
        video.options = {"preset": "veryfast", "crf": "26", "maxrate": "1500k", "bufsize": "3000k"}
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = _CLOCK
    if sound is not None:
        audio = target.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
    if video is not None:
        picture = first
        while picture is not None and picture.colour is not None:
            small: Any = cv2.resize(picture.colour, size, interpolation=cv2.INTER_AREA)
            frame = av.VideoFrame.from_ndarray(small, format="rgb24").reformat(format="yuv420p")
            frame.time_base = _CLOCK
            frame.pts = round(picture.time / _CLOCK)
            target.mux(video.encode(frame))
            picture = next(pictures, None)
        target.mux(video.encode())
    if audio is not None and sound is not None:
        samples = np.ascontiguousarray(sound.samples)
        for at in range(0, len(samples), 1024):
            part = av.AudioFrame.from_ndarray(samples[None, at : at + 1024], "fltp", "mono")
            part.sample_rate = SAMPLE_RATE
            part.time_base = Fraction(1, SAMPLE_RATE)
            part.pts = round(sound.start * SAMPLE_RATE) + at
            target.mux(audio.encode(part))
        target.mux(audio.encode())
