"""What a file tells without anybody looking at its face or listening to its voice.

`read_facts` reads one file: header, checksum, and its sound for silences and loudness. Facts of
many files are kept as a line of JSON each, so that a run that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from avfake.media import Clip
from avfake.types import SAMPLE_RATE, AvfakeError
from evaluation.journal import kept
from evaluation.media import Media

FORMAT = 1  # of a kept line; lines of another are read anew
BLOCK = 160  # samples, 10 ms: the grain of silences
QUIET = -40.0  # dB under the loudest block: below that is silence
FLOOR = -100.0  # dB, the loudness of nothing
NEVER = 10**9  # pictures until the next one in colour

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Facts:
    """Facts of one file; None where the file has no such thing, or `reason` is given.

    `reason`: why it cannot be read, a code of AvfakeError or `internal_error`. `stamp`: the time of
    change in ns that it had before it was read; `sha256`: of its bytes. `sound` and `picture`:
    checksums of the decoded sound and of the first picture, which other tags in the file do not
    change.
    """

    path: str
    reason: str | None = None
    message: str | None = None
    warnings: tuple[str, ...] = ()
    bytes: int | None = None
    stamp: int | None = None
    sha256: str | None = None
    sound: str | None = None
    picture: str | None = None
    container: str | None = None  # by its first bytes, with the brand of an MP4
    duration: float | None = None  # seconds; None for a still image
    bit_rate: float | None = None  # bit/s of the whole file
    width: int | None = None  # pixels, upright
    height: int | None = None
    fps: float | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    sample_rate: int | None = None  # Hz
    has_sound: bool | None = None  # some can be decoded
    lead: float | None = None  # seconds of silence before the first sound
    trail: float | None = None  # and after the last
    loudness: float | None = None  # dB, root mean square of what is not silence; 0 is full scale


def read_facts(media: Media, path: str) -> Facts:
    """Facts of the file `path` of `media`. One that cannot be read comes back with its reason."""
    try:
        with media.file(path) as file:
            return _read(file, path)
    except AvfakeError as error:
        return Facts(path, error.reason, str(error))
    except Exception as error:  # one odd file must not cost the others theirs
        log.exception("%s", path)
        return Facts(path, "internal_error", f"{path} cannot be read: {type(error).__name__}.")


def read_all(media: Media, paths: Sequence[str], journal: Path | None, workers: int) -> list[Facts]:
    """Facts of all files, in the order of `paths`.

    Those in `journal` that are of files unchanged since (by size and time) are taken from
    there, new ones appended. `workers`: threads, for FFmpeg and checksums let go of Python's lock.
    """
    known = _known(journal) if journal is not None else {}
    now = media.stamps(paths)
    found = {
        path: known[path]
        for path in paths
        if path in known and now.get(path) == (known[path].bytes, known[path].stamp)
    }
    missing = [path for path in paths if path not in found]
    for read in _each(media, missing, workers):
        facts = replace(read, stamp=now[read.path][1]) if read.path in now else read
        found[facts.path] = facts
        if journal is not None and facts.reason is None:
            with journal.open("a") as file:
                file.write(json.dumps({"format": FORMAT, **asdict(facts)}) + "\n")
    return [found[path] for path in paths]


def film_checksum(file: Path) -> str:
    """Checksum of the pictures' brightness, one a second. Raises AvfakeError."""
    digest = hashlib.sha256()
    with Clip(file) as clip:
        for picture in clip.pictures(NEVER, rate=1.0):
            digest.update(picture.luma.tobytes())
    return digest.hexdigest()


def silences(samples: np.ndarray) -> tuple[float, float, float]:
    """(seconds of leading silence, of trailing silence, loudness in dB) of float32 [n] at 16 kHz.

    A block of 10 ms is silent when it lies 40 dB under the loudest. Of a sound that is nothing but
    zeros both silences are its length.
    """
    seconds = len(samples) / SAMPLE_RATE
    count = len(samples) // BLOCK
    power = np.square(samples[: count * BLOCK], dtype=np.float64).reshape(count, BLOCK).mean(1)
    if not count or not power.max() > 0:
        return seconds, seconds, FLOOR
    loud = np.flatnonzero(power >= power.max() * 10 ** (QUIET / 10))
    lead = loud[0] * BLOCK / SAMPLE_RATE
    trail = seconds - (loud[-1] + 1) * BLOCK / SAMPLE_RATE
    return lead, trail, max(FLOOR, float(10 * np.log10(power[loud].mean())))


def container_of(head: bytes) -> str:
    """The kind of file that begins with these 16 bytes: "mp4/isom", "matroska", "wav", ..."""
    if head[4:8] == b"ftyp":
        return "mp4/" + head[8:12].decode("ascii", "replace").strip()
    if head[:4] == b"RIFF":
        return head[8:12].decode("ascii", "replace").strip().lower()
    for name, signature in _SIGNATURES:
        if head.startswith(signature):
            return name
    return "other"


_SIGNATURES = (
    ("matroska", b"\x1a\x45\xdf\xa3"),
    ("ogg", b"OggS"),
    ("flac", b"fLaC"),
    ("mp3", b"ID3"),
    ("mp3", b"\xff\xfb"),
    ("mp3", b"\xff\xf3"),
    ("mpegts", b"\x47"),
    ("mpeg", b"\x00\x00\x01\xba"),
    ("flv", b"FLV"),
    ("asf", b"\x30\x26\xb2\x75"),
    ("jpeg", b"\xff\xd8\xff"),
    ("png", b"\x89PNG"),
    ("bmp", b"BM"),
)


def _read(file: Path, path: str) -> Facts:
    with Clip(file) as clip:  # first, for it refuses what is no regular file
        info = clip.info
        sound = clip.sound()
        pictures = clip.pictures(NEVER)
        first = next(pictures, None)
        warnings = tuple(clip.warnings)
    with file.open("rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        container = container_of(handle.read(16))
        handle.seek(0)
        sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
    if sound is None and first is None:
        raise AvfakeError("nothing_decoded", f"Nothing in {path} could be decoded.")
    duration = info.duration or (sound.end if sound is not None else None)
    lead = trail = loudness = None
    if sound is not None:
        lead, trail, loudness = silences(sound.samples)
    return Facts(
        path=path,
        warnings=warnings,
        bytes=size,
        sha256=sha256,
        sound=None if sound is None else _sound_checksum(sound.samples),
        picture=None if first is None else hashlib.sha256(first.luma.tobytes()).hexdigest(),
        container=container,
        duration=duration,
        bit_rate=size * 8 / duration if duration else None,
        width=info.width,
        height=info.height,
        fps=info.fps,
        video_codec=info.video_codec,
        audio_codec=info.audio_codec,
        sample_rate=info.sample_rate,
        has_sound=sound is not None,
        lead=lead,
        trail=trail,
        loudness=loudness,
    )


def _sound_checksum(samples: np.ndarray) -> str:
    return hashlib.sha256((samples * 32767).round().astype("<i2").tobytes()).hexdigest()


def _each(media: Media, paths: Sequence[str], workers: int) -> Iterator[Facts]:
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(read_facts, media, path) for path in paths]
        console = Console(stderr=True)
        yield from track(
            (job.result() for job in as_completed(jobs)),
            "reading files",
            total=len(jobs),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )


def _known(path: Path) -> dict[str, Facts]:
    found = {}
    for row in kept(path):
        if row.pop("format", None) == FORMAT:
            row["warnings"] = tuple(row["warnings"])
            found[row["path"]] = Facts(**row)
    return found
