"""The only decoder: a file becomes sound and pictures, each with its time in seconds.

FFmpeg (through PyAV) reads from one Python file object with an allow-list of containers, so a file
cannot make the demuxer open another file or an address. Nothing but a regular file is opened.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

import av
import av.error
import numpy as np

from avfake.limits import DEFAULT_LIMITS, Limits
from avfake.pictures import HeldFrame, Picture, check_size, read_still, still_picture
from avfake.types import FRAME_RATE, SAMPLE_RATE, AvfakeError, MediaInfo, Sound

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,"
    "wav,w64,aiff,flac,mp3,aac,amr,ivf"
)
"""FFmpeg demuxers that may be used: no playlists, no concatenations, no image sequences."""
IMAGE_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM")
MAX_HELD = 10.0  # seconds for which one picture may stand; beyond that is a gap

log = logging.getLogger(__name__)


class Clip:
    """An opened media file. Use as a context manager.

    `info` is known at once; `sound()` and `pictures()` each decode their stream once. `warnings`
    fills while decoding: "partial_decode" (some of the file could not be decoded), "gap" (the
    picture stands or is missing for more than 10 s), "truncated" (only the first `longest` seconds
    were read, or the first `limits.seconds`).

    `longest`: seconds of the clip, on its own clock, to decode; None for all, up to the limit. A
    clip that is shorter is decoded as if it were not given. `limits`: see `Limits`.

    Raises AvfakeError with reason `not_found`, `not_a_file`, `not_readable`, `empty_file`,
    `file_too_large`, `not_media`, `no_streams` or `too_large`; `decode_too_slow` and `too_large`
    come while decoding, too.
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
        self._container: Any = None
        self._origin = 0.0  # the container's start on its own clock, seconds
        self._video_duration: float | None = None  # as the stream claims
        self._sound_end = 0.0  # as far as sound was decoded
        self._still: tuple[np.ndarray, float] | None = None
        self._clock = _Clock(limits.decode_seconds, self.path.name)
        self._file = _open_regular(self.path)
        try:
            self._check_bytes()
            head = self._file.read(16)
            self._file.seek(0)
            if not head:
                raise AvfakeError("empty_file", f"{self.path.name} is empty.")
            if head.startswith(IMAGE_SIGNATURES) or (
                head.startswith(b"RIFF") and head[8:12] == b"WEBP"
            ):
                self._still = read_still(self._file, self.path.name, limits.pixels)
                picture, scale = self._still
                height, width = (round(side * scale) for side in picture.shape[:2])
                self.info = MediaInfo(None, width, height, None, None, None, None, is_image=True)
            else:
                self._reopen()
                self.info = self._probe()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Clip:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._container is not None:
            self._container.close()
            self._container = None
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
        and picture stay together.
        """
        if not self.has_sound:
            return None
        pieces: list[np.ndarray] = []
        start: float | None = None
        count = 0  # samples so far
        resampler, kind = None, None
        for frame in self._decoded("audio"):
            if frame.time is None:
                continue
            time = frame.time - self._origin
            if time > self._end:
                self._warn("truncated")
                break
            if kind != (kind := (frame.format.name, frame.layout.name, frame.sample_rate)):
                # The first frame, or a stream that goes from mono to stereo, say, midway.
                pieces.append(_resampled(resampler, None))
                count += len(pieces[-1])
                resampler = av.AudioResampler("fltp", frame.layout.name, SAMPLE_RATE)
            if start is None:
                start = time
            gap = round((time - start) * SAMPLE_RATE) - count
            if gap > 0.05 * SAMPLE_RATE:
                most = round(self._limits.seconds * SAMPLE_RATE)
                pieces.append(np.zeros(min(gap, most), np.float32))
                count += len(pieces[-1])
            pieces.append(_resampled(resampler, frame))
            count += len(pieces[-1])
        if start is None:
            return None
        samples = np.concatenate([*pieces, _resampled(resampler, None)])
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
            yield still_picture(*self._still)
            return
        if self.info.video_codec is None:
            return
        first, count = 0.0, 0
        held: HeldFrame | None = None
        for frame in self._decoded("video"):
            if frame.time is None:
                continue
            time = frame.time - self._origin
            if held is None:
                first, held = time, HeldFrame(frame, time)
                continue
            if time <= held.time:
                continue  # a clock that runs back: keep the picture that came first
            if time > self._end:
                self._warn("truncated")
                break
            # Every grid point nearer to the held frame than to this one shows the held frame.
            while (now := first + count / rate) - held.time <= time - now:
                if now > held.time + MAX_HELD:
                    self._warn("gap")
                    count = int(np.ceil((time - first) * rate))
                    break
                yield held.picture(now, count % colour_every == 0)
                count += 1
            held = HeldFrame(frame, time)
        while held is not None and (now := first + count / rate) - held.time <= 0.5 / rate:
            yield held.picture(now, count % colour_every == 0)
            count += 1
        if count / rate < 0.9 * min(self._claimed_duration(), self._end) - 0.5:
            self._warn("partial_decode")

    def _claimed_duration(self) -> float:
        """Seconds that the picture should last; 0 where nothing says."""
        if self._video_duration is not None:
            return self._video_duration
        # Matroska knows only the whole: that may be the sound's length as well.
        whole = min(self.info.duration or 0.0, self._end)
        return 0.0 if self._sound_end >= 0.9 * whole - 0.5 else whole

    def _decoded(self, kind: str) -> Iterator[Any]:
        """Frames of the first `kind` stream from its beginning; faults are counted, not fatal."""
        # A fresh container rather than a seek: MPEG program streams lose frames when they seek.
        self._reopen()
        stream = getattr(self._container.streams, kind)[0]
        stream.thread_type = "AUTO"
        faults = 0
        packets = self._container.demux(stream)
        while True:
            try:
                with self._clock:
                    packet = next(packets)
            except StopIteration:
                break
            except (av.error.FFmpegError, UnicodeDecodeError) as error:
                log.debug("%s: demuxing stopped: %s", self.path.name, error)
                faults += 1
                break
            try:
                with self._clock:
                    frames = packet.decode()
                for frame in frames:
                    if kind == "video":
                        pixels = self._limits.pixels
                        check_size(frame.width, frame.height, pixels, self.path.name)
                    if getattr(frame, "is_corrupt", False):
                        faults += 1
                        continue
                    yield frame
            except av.error.FFmpegError as error:
                log.debug("%s: %s", self.path.name, error)
                faults += 1
        if faults:
            self._warn("partial_decode")

    def _reopen(self) -> None:
        if self._container is not None:
            self._container.close()
        self._file.seek(0)
        with self._clock:
            self._container = _open_container(self._file, self.path.name)

    def _check_bytes(self) -> None:
        size, most = os.fstat(self._file.fileno()).st_size, self._limits.bytes
        if size > most:
            text = f"{self.path.name} has {size} bytes, more than {most}."
            raise AvfakeError("file_too_large", text)

    def _warn(self, what: str) -> None:
        if what not in self.warnings:
            self.warnings.append(what)

    def _probe(self) -> MediaInfo:
        container = self._container
        # The first stream of a kind is the one; a cover picture or an unknown codec is none.
        video = next(iter(container.streams.video), None)
        if video is not None and (video.codec_context is None or _is_cover(video)):
            video = None
        audio = next(iter(container.streams.audio), None)
        if audio is not None and audio.codec_context is None:
            audio = None
        if video is None and audio is None:
            raise AvfakeError(
                "no_streams", f"{self.path.name} holds neither picture nor sound that can be read."
            )
        start = container.start_time
        self._origin = start / 1e6 if start is not None else 0.0
        width = height = fps = rotation = None
        if video is not None:
            width, height = video.codec_context.width, video.codec_context.height
            check_size(width, height, self._limits.pixels, self.path.name)
            if video.duration is not None:
                self._video_duration = float(video.duration * video.time_base)
            fps = float(video.average_rate) if video.average_rate else None
            rotation = self._rotation(video)
            if rotation in (90, 270):
                width, height = height, width
        return MediaInfo(
            duration=container.duration / 1e6 if container.duration else None,
            width=width,
            height=height,
            fps=fps,
            video_codec=_codec(video),
            audio_codec=_codec(audio),
            sample_rate=audio.codec_context.sample_rate if audio is not None else None,
            rotation=rotation or 0,
        )

    def _rotation(self, stream: Any) -> int:
        """Degrees clockwise that turn the stored picture upright, read off the first frame."""
        try:
            for packet in self._container.demux(stream):
                for frame in packet.decode():
                    return -frame.rotation % 360 // 90 * 90
        except (av.error.FFmpegError, UnicodeDecodeError):
            log.debug("%s: the first picture does not decode", self.path.name)
        return 0


class _Clock:
    """Time spent in decoding: runs only within `with`, and says at its end when there is none left.

    Raises AvfakeError `decode_too_slow`.
    """

    def __init__(self, seconds: float, name: str) -> None:
        self._left = self._seconds = seconds
        self._name = name
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._left -= perf_counter() - self._started
        if self._left < 0:
            text = f"{self._name} takes more than {self._seconds:g} s to decode."
            raise AvfakeError("decode_too_slow", text)


def _open_regular(path: Path) -> Any:
    """Open a regular file without ever blocking on a FIFO or a device."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise AvfakeError("not_found", f"There is no file {path.name}.") from None
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise AvfakeError("not_readable", f"{path.name} cannot be opened: {text}.") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        hint = ": name the files in it" if path.is_dir() else ""
        raise AvfakeError("not_a_file", f"{path.name} is not a regular file{hint}.")
    return os.fdopen(handle, "rb")


def _open_container(file: Any, name: str) -> Any:
    try:
        return av.open(
            file,
            options={"format_whitelist": CONTAINERS},
            metadata_errors="replace",
        )
    except (av.error.FFmpegError, UnicodeDecodeError, ValueError) as error:
        log.debug("%s: %s", name, error)
        raise AvfakeError(
            "not_media",
            f"{name} is damaged, or no video, sound or image file of a kind that is read.",
        ) from None


def _resampled(resampler: Any, frame: Any) -> np.ndarray:
    """float32 [n]: what comes out for one frame, or (None) what was still inside.

    Channels are averaged here: FFmpeg adds them up, which clips a voice that is on both.
    """
    if resampler is None:
        return np.zeros(0, np.float32)
    if frame is not None:
        frame.pts = None  # the resampler keeps its own count; gaps are the caller's
    parts = [part.to_ndarray().mean(0) for part in resampler.resample(frame)]
    return np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32, copy=False)


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _codec(stream: Any) -> str | None:
    return None if stream is None else stream.codec_context.name
