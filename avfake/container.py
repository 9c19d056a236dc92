"""One file as FFmpeg reads it (through PyAV), kept short: what opens, and what comes out of it.

FFmpeg gets one Python file object, an allow-list of containers and no protocol, so that a file
cannot make it open another file or an address. Nothing but a regular file is opened. No picture is
decoded that is larger than the limit, and the time that all of it takes is counted.
"""

from __future__ import annotations

import logging
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import av
import av.error

from avfake.limits import Limits, is_memory_fault
from avfake.pictures import check_size
from avfake.types import AvfakeError

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,"
    "wav,w64,aiff,flac,mp3,aac,amr,ivf,gif"
)
"""FFmpeg demuxers that may be used: no playlists, no concatenations, no image sequences."""
MAX_SAMPLES = 1 << 22  # of all channels in one frame; the longest that codecs have is 65,535 each
# Enough for any clip to decode faster than the rest can follow. A frame is held for each, and how
# much memory a file takes should not depend on how many cores there are.
DECODE_THREADS = 4

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/")  # a Path keeps one of two slashes

log = logging.getLogger(__name__)


class Container:
    """An opened media file: its first picture and sound streams that can be decoded.

    `file`: as `open_regular` gives it. `video`, `audio`: PyAV streams, or None, valid until the
    next `frames` begins; `left_out`: whether there are more of either; `in_tiles`: whether its
    pictures are pieces of a photo (HEIC), each a stream and none the photo; `faults`: packets and
    frames that were lost in the last run of `frames`; `clock`: runs within `with`, for whoever
    makes more of a frame.

    Raises AvfakeError `not_media` or `decode_too_slow`.
    """

    def __init__(self, file: Any, name: str, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self.clock = _Clock(limits.decode_seconds, name)
        self._source = _Source(file, self.clock)
        self._opened: Any = None
        self.faults = 0
        self.open()

    def open(self) -> None:
        """Open it, again if need be: MPEG program streams lose frames when they seek."""
        self.close()
        self._source.seek(0)
        options = {
            "format_whitelist": CONTAINERS,
            "protocol_whitelist": "none",
            **self._decoder_options(),
        }
        try:
            with self.clock:
                self._opened = av.open(self._source, options=options, metadata_errors="replace")
        except (av.error.FFmpegError, UnicodeDecodeError, ValueError) as error:
            self._source.check(self._name)
            if is_memory_fault(error):
                raise
            log.debug("%s: %s", self._name, error)
            raise AvfakeError(
                "not_media",
                f"{self._name} is damaged, or no video, sound or image file of a kind that is "
                "read.",
            ) from None
        videos = [stream for stream in self._opened.streams.video if _is_clip(stream)]
        audios = [s for s in self._opened.streams.audio if s.codec_context is not None]
        self.video = videos[0] if videos else None
        self.audio = audios[0] if audios else None
        self.left_out = len(videos) > 1 or len(audios) > 1
        self.in_tiles = any(s.disposition & av.stream.Disposition.dependent for s in videos)

    def close(self) -> None:
        """Close what FFmpeg has opened; the file stays open. Safe to call twice."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def start(self) -> float:
        """When the earliest stream starts, on the container's own clock, in seconds."""
        start = self._opened.start_time
        return 0.0 if start is None else start / 1e6

    @property
    def duration(self) -> float | None:
        """Seconds, as the container claims."""
        duration = self._opened.duration
        return duration / 1e6 if duration and duration > 0 else None

    def frames(self, kind: str, threads: int = DECODE_THREADS) -> Iterator[Any]:
        """PyAV frames of "video" or "audio" from the beginning on.

        What cannot be decoded is left out and counted in `faults`. Raises AvfakeError `too_large`,
        `encrypted`, `not_readable` (the disk failed) or `decode_too_slow`.
        """
        self.open()
        self.faults = 0
        stream = getattr(self, kind)
        context = stream.codec_context
        if kind == "video":
            self._check_size(context)
            context.thread_type = "AUTO"
            context.thread_count = threads
        else:
            _plain_layout(context)
        context.options = self._decoder_options()
        if stream.metadata.get("enc_key_id"):  # Matroska's way of saying so
            raise self._encrypted()
        packets = self._opened.demux(stream)
        order = _Order()
        while True:
            try:
                with self.clock:
                    packet = next(packets)
            except StopIteration:
                break
            # IndexError: PyAV, at the end of a file whose streams have become more on the way.
            except (av.error.FFmpegError, UnicodeDecodeError, IndexError) as error:
                self._lost(error)
                break
            if packet.has_sidedata("encryption_info"):
                raise self._encrypted()
            try:
                with self.clock:
                    frames = packet.decode()
            except (av.error.FFmpegError, ValueError) as error:
                if kind == "video":
                    # A decoder that meets a picture beyond its limit only says "invalid".
                    self._check_size(context)
                self._lost(error)
                continue
            for frame in frames:
                if kind == "video":
                    self._check_size(frame)
                    order.mend(frame)
                if getattr(frame, "is_corrupt", False):
                    self.faults += 1
                    continue
                yield frame
        self._source.check(self._name)

    def _decoder_options(self) -> dict[str, str]:
        # Decoders count whole blocks, up to 128 pixels a side: exact is what `check_size` is.
        most = 2 * self._limits.pixels + (1 << 16)
        return {"max_pixels": str(most), "max_samples": str(MAX_SAMPLES)}

    def _check_size(self, it: Any) -> None:
        check_size(it.width, it.height, self._limits.pixels, self._name)

    def _lost(self, error: Exception) -> None:
        if is_memory_fault(error):
            raise error
        log.debug("%s: %s", self._name, error)
        self.faults += 1

    def _encrypted(self) -> AvfakeError:
        return AvfakeError("encrypted", f"{self._name} is encrypted.")


def open_regular(path: Path, most: int) -> Any:
    """Open a regular file of up to `most` bytes; a FIFO or a device is not even opened.

    Raises AvfakeError `not_found`, `not_a_file`, `not_readable`, `empty_file` or `file_too_large`.
    """
    try:
        _check_regular(os.stat(path), path)
        # What lies there may have changed since: never wait for the other end of a FIFO.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        text = f"There is no file {path.name}."
        if _ADDRESS.match(str(path)):
            text = f"{path.name} is an address; only `avfake batch --fetch` takes those."
        raise AvfakeError("not_found", text) from None
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise AvfakeError("not_readable", f"{path.name} cannot be opened: {text}.") from None
    file = os.fdopen(handle, "rb")
    try:
        facts = os.fstat(handle)
        _check_regular(facts, path)
        if facts.st_size == 0:
            raise AvfakeError("empty_file", f"{path.name} is empty.")
        if facts.st_size > most:
            text = f"{path.name} has {facts.st_size} bytes, more than {most}."
            raise AvfakeError("file_too_large", text)
    except AvfakeError:
        file.close()
        raise
    return file


def _check_regular(facts: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(facts.st_mode):
        hint = ": name the files in it" if stat.S_ISDIR(facts.st_mode) else ""
        name = path.name or path  # "." and "/" have none
        raise AvfakeError("not_a_file", f"{name} is not a regular file{hint}.")


class _Clock:
    """Time spent in decoding: runs only within `with`, and says at its end when there is none left.

    Raises AvfakeError `decode_too_slow`.
    """

    def __init__(self, seconds: float, name: str) -> None:
        self._left = self._seconds = seconds
        self._name = name
        self._started = 0.0

    @property
    def is_over(self) -> bool:
        """Asked within `with`."""
        return perf_counter() - self._started > self._left

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._left -= perf_counter() - self._started
        if self._left < 0:
            text = f"{self._name} takes more than {self._seconds:g} s to decode."
            raise AvfakeError("decode_too_slow", text) from None


class _Order:
    """A stream's frames by the clock that ran back less often so far: theirs, or that of packets.

    AVI has only the latter. For H.264 with B-frames FFmpeg makes the former up, and wrongly; its
    programs then go by this rule (`guess_correct_pts`), which PyAV does not hand out.
    """

    def __init__(self) -> None:
        self._last = [-math.inf, -math.inf]
        self._faults = [0, 0]

    def mend(self, frame: Any) -> None:
        for which, time in enumerate((frame.pts, frame.dts)):
            if time is not None:
                self._faults[which] += time <= self._last[which]
                self._last[which] = time
        if frame.dts is not None and (frame.pts is None or self._faults[0] > self._faults[1]):
            frame.pts = frame.dts


class _Source:
    """The file as FFmpeg sees it: without a name, and at its end once time is over or a disk fails.

    No exception may go through FFmpeg; what it was is asked afterwards (`check`, the clock).
    """

    def __init__(self, file: Any, clock: _Clock) -> None:
        self._file = file
        self._clock = clock
        self._failure: OSError | None = None

    def read(self, count: int) -> bytes:
        if self._failure is not None or self._clock.is_over:
            return b""
        try:
            return bytes(self._file.read(count))
        except OSError as error:
            self._failure = error
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return int(self._file.seek(offset, whence))
        except (OSError, ValueError):
            return -1  # before the beginning, as damaged files ask for

    def tell(self) -> int:
        return int(self._file.tell())

    def check(self, name: str) -> None:
        """Raise AvfakeError `not_readable` if the file could not be read to its end."""
        if self._failure is not None:
            text = self._failure.strerror or str(self._failure)
            raise AvfakeError("not_readable", f"{name} cannot be read: {text}.")


def _is_clip(stream: Any) -> bool:
    """Whether a video stream moves and can be decoded: no cover picture, no unknown codec."""
    is_cover = stream.disposition & av.stream.Disposition.attached_pic
    return stream.codec_context is not None and not is_cover


def _plain_layout(context: Any) -> None:
    """Forget which speaker each channel is for, where that is a list of the file's own.

    PyAV up to 18 frees such a list twice and kills the process. Here the list goes over to
    `layout`, which frees it once, and the decoder knows the number of channels only.
    """
    layout = context.layout
    if " channels (" in layout.name:
        context.layout = f"{layout.nb_channels}C"
