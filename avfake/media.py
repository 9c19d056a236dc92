"""The only decoder: a file becomes sound and pictures, each with its time in seconds.

How FFmpeg is kept short while it opens and decodes a file is in `container`; here its frames are
put on the clip's clock.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from avfake.boxes import check_claims
from avfake.container import Container, open_regular
from avfake.limits import DEFAULT_LIMITS, Limits, is_memory_fault
from avfake.pictures import (
    HeldFrame,
    Picture,
    Still,
    check_size,
    quarter_turns,
    read_still,
    still_picture,
)
from avfake.types import FRAME_RATE, SAMPLE_RATE, AvfakeError, MediaInfo, Sound

IMAGE_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM")
MAX_HELD = 10.0  # seconds for which one picture may stand; beyond that is a gap
MAX_TIME = 1e6  # seconds: a frame beyond, on either side of 0, has a damaged time
BACK = 1.0  # seconds by which sound may overlap with what came before it
SOUND_RATES = (1_000, 1_000_000)  # Hz; others are damage

log = logging.getLogger(__name__)


class Clip:
    """An opened media file. Use as a context manager.

    `info` is known at once; `sound()` and `pictures()` each decode their stream once. `warnings`
    fills while decoding: "partial_decode" (some of the file could not be decoded, or has damaged
    times), "gap" (the picture stands or is missing for more than 10 s), "truncated" (only the first
    `longest` seconds were read, or the first `limits.seconds`, or the first picture of an animated
    image), "streams_left_out" (there are more pictures or sounds; the first of each counts).

    `longest`: seconds of the clip, on its own clock, to decode; None for all, up to the limit. A
    clip that is shorter is decoded as if it were not given. `limits`: see `Limits`.

    Raises AvfakeError with reason `not_found`, `not_a_file`, `not_readable`, `empty_file`,
    `file_too_large`, `not_media`, `no_streams`, `too_large`, `encrypted` or `decode_too_slow`; the
    last three, and `not_readable` where a disk fails, also while decoding.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        longest: float | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.path = Path(path)
        self._limits = limits
        self._end = limits.seconds if longest is None else min(longest, limits.seconds)
        self.warnings: list[str] = []
        self._origin = 0.0  # the container's start on its own clock, seconds
        self._video_duration: float | None = None  # as the stream claims
        self._sound_end = 0.0  # as far as sound was decoded
        self._still: Still | None = None
        self._container: Container | None = None
        self._file = open_regular(self.path, limits.bytes)
        try:
            head = self._file.read(16)
            self._file.seek(0)
            if head.startswith(IMAGE_SIGNATURES) or (
                head.startswith(b"RIFF") and head[8:12] == b"WEBP"
            ):
                self._still = read_still(self._file, self.path.name, limits.pixels)
                if self._still.moves:
                    self._warn("truncated")
                width, height = self._still.size
                self.info = MediaInfo(None, width, height, None, None, None, None, is_image=True)
            else:
                check_claims(self._file, self.path.name)
                self._container = Container(self._file, self.path.name, limits)
                self.info = self._probe(self._container)
        except OSError as error:
            self.close()
            text = error.strerror or str(error)
            raise AvfakeError("not_readable", f"{self.path.name} cannot be read: {text}.") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *fault: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._container is not None:
            self._container.close()
        self._file.close()

    @property
    def has_picture(self) -> bool:
        return self._still is not None or self.info.video_codec is not None

    @property
    def has_sound(self) -> bool:
        return self.info.audio_codec is not None

    def share(self, time: float) -> float:
        """Which share of the clip `time` seconds are, in [0, 1], as far as its container knows."""
        whole = min(self.info.duration or 0.0, self._end)
        return min(1.0, max(0.0, time / whole)) if whole > 0 else 0.0

    def sound(self) -> Sound | None:
        """All sound as mono 16 kHz; None where the clip has none that can be decoded.

        Gaps and jumps of more than 50 ms in the stream's own times become silence, so that sound
        and picture stay together; what comes a second and more too late is left out.
        """
        if not self.has_sound:
            return None
        pieces: list[np.ndarray] = []
        start: float | None = None
        count = 0  # samples so far
        resampler, kind = None, None
        most = self._limits.seconds * SAMPLE_RATE  # also where a clip's clock begins long before 0
        for frame in self._frames("audio"):
            time = self._time(frame)
            if time is None:
                continue
            if not SOUND_RATES[0] <= frame.sample_rate <= SOUND_RATES[1]:
                self._warn("partial_decode")
                continue
            if kind != (kind := (frame.format.name, frame.layout.name, frame.sample_rate)):
                # The first frame, or a stream that goes from mono to stereo, say, midway.
                pieces.append(self._resampled(resampler, None))
                count += len(pieces[-1])
                resampler = av.AudioResampler("flt", frame.layout.name, SAMPLE_RATE)
            if start is None:
                start = time
            due = round((time - start) * SAMPLE_RATE)
            if time > self._end or max(due, count) > most:
                self._warn("truncated")
                break
            if due - count < -BACK * SAMPLE_RATE:
                self._warn("partial_decode")
                continue
            if due - count > 0.05 * SAMPLE_RATE:
                pieces.append(np.zeros(due - count, np.float32))
                count = due
            pieces.append(self._resampled(resampler, frame))
            count += len(pieces[-1])
        if start is None:
            return None
        samples = np.concatenate([*pieces, self._resampled(resampler, None)])
        np.nan_to_num(samples, copy=False)  # in place: an hour of sound is 230 MB
        sound = Sound(np.clip(samples, -1.0, 1.0, out=samples), start)
        self._sound_end = sound.end
        return sound

    def pictures(self, colour_every: int, rate: float = FRAME_RATE) -> Iterator[Picture]:
        """Pictures at `rate` a second, each the frame nearest in time.

        Colour comes with the first and then every `colour_every`-th picture: converting a frame
        that no branch looks at costs more than all the rest of the work on it. A still image is
        one picture at time 0.
        """
        if self._still is not None:
            yield still_picture(self._still)
            return
        if not self.has_picture:
            return
        first, count = 0.0, 0
        seen = late = 0
        held: HeldFrame | None = None
        for frame in self._frames("video"):
            time = self._time(frame)
            if time is None:
                continue
            seen += 1
            if held is None:
                first, held = time, HeldFrame(frame, time)
                continue
            if time <= held.time:  # a clock that runs back: keep the picture that came first
                late += 1
                continue
            if time > self._end or time - first > self._limits.seconds:
                self._warn("truncated")
                break
            # Every grid point nearer to the held frame than to this one shows the held frame.
            while (now := first + count / rate) - held.time <= time - now:
                if now > held.time + MAX_HELD:
                    self._warn("gap")
                    count = int(np.ceil((time - first) * rate))
                    break
                yield self._picture(held, now, count % colour_every == 0)
                count += 1
            held = HeldFrame(frame, time)
        while held is not None and (now := first + count / rate) - held.time <= 0.5 / rate:
            yield self._picture(held, now, count % colour_every == 0)
            count += 1
        claimed = min(self._claimed_duration(), self._end)
        if late > 0.1 * seen or count / rate < 0.9 * claimed - 0.5:
            self._warn("partial_decode")

    def _picture(self, held: HeldFrame, time: float, colour: bool) -> Picture:
        assert self._container is not None
        with self._container.clock:  # of large pictures, this takes longer than decoding
            return held.picture(time, colour)

    def _claimed_duration(self) -> float:
        """Seconds that the picture should last; 0 where nothing says."""
        if self._video_duration is not None:
            return self._video_duration
        # Matroska knows only the whole: that may be the sound's length as well.
        whole = min(self.info.duration or 0.0, self._end)
        return 0.0 if self._sound_end >= 0.9 * whole - 0.5 else whole

    def _frames(self, kind: str) -> Iterator[Any]:
        """PyAV frames of the picture or the sound; what is lost leaves a warning."""
        assert self._container is not None
        yield from self._container.frames(kind)
        if self._container.faults:
            self._warn("partial_decode")

    def _time(self, frame: Any) -> float | None:
        """Seconds on the clip's clock; None for a frame that has no time, or a damaged one."""
        if frame.time is None:
            return None
        time = float(frame.time) - self._origin
        if abs(time) > MAX_TIME:
            self._warn("partial_decode")
            return None
        return time

    def _resampled(self, resampler: Any, frame: Any) -> np.ndarray:
        """float32 [n]: what comes out for one frame, or (None) what was still inside.

        Channels are averaged here: FFmpeg adds them up, which clips a voice that is on both. They
        come interleaved: PyAV reads beyond the end where eight and more have a plane each.
        """
        if resampler is None:
            return np.zeros(0, np.float32)
        if frame is not None:
            frame.pts = None  # the resampler keeps its own count; gaps are the caller's
        try:
            parts = [
                part.to_ndarray().reshape(-1, part.layout.nb_channels).T.mean(0)
                for part in resampler.resample(frame)
            ]
        except (av.error.FFmpegError, ValueError) as error:
            if is_memory_fault(error):
                raise
            log.debug("%s: %s", self.path.name, error)
            self._warn("partial_decode")
            parts = []
        return np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32, copy=False)

    def _warn(self, what: str) -> None:
        if what not in self.warnings:
            self.warnings.append(what)

    def _probe(self, container: Container) -> MediaInfo:
        name, video, audio = self.path.name, container.video, container.audio
        if video is None and audio is None:
            raise AvfakeError(
                "no_streams", f"{name} holds neither picture nor sound that can be read."
            )
        if container.in_tiles:
            raise AvfakeError(
                "no_streams",
                f"{name} is a photo in tiles, as phones keep them: save it as a JPEG or PNG.",
            )
        if container.left_out:
            self._warn("streams_left_out")
        self._origin = container.start
        duration, video_codec, audio_codec = container.duration, _codec(video), _codec(audio)
        sample_rate = audio.codec_context.sample_rate if audio is not None else None
        width = height = fps = None
        rotation = 0
        if video is not None:
            width, height = video.codec_context.width, video.codec_context.height
            check_size(width, height, self._limits.pixels, name)
            if video.duration is not None and video.duration > 0:
                self._video_duration = float(video.duration * video.time_base)
            fps = float(video.average_rate) if video.average_rate else None
            # Read off the first frame.
            first = next(container.frames("video", threads=1), None)
            rotation = 0 if first is None else -quarter_turns(first) % 4 * 90
            if rotation in (90, 270):
                width, height = height, width
        return MediaInfo(
            duration, width, height, fps, video_codec, audio_codec, sample_rate, rotation
        )


def _codec(stream: Any) -> str | None:
    return None if stream is None else stream.codec_context.codec.canonical_name
