"""Does any damaged file crash, stall or puzzle a prediction? Counts how each ends, and keeps those.

    python -m benchmarks.fuzz                          ten minutes, clips that it makes itself
    python -m benchmarks.fuzz --seconds 60 clip.mp4    mutations of a clip of one's own
    python -m benchmarks.fuzz --start 1234 --count 1   one file again, by its number

File number i is made from the seed and i alone: a seed clip with one to six mutations (bits, runs
of bytes, cuts, repetitions, pieces of another clip; fields that hold a size, a count or a time, in
MP4 boxes above all). Each is judged in a worker process. Kept is what a worker died of, what took
too long, too much memory or output, and what gave an internal_error: each is a fault in avfake, or
in a library that it calls. Exit status 1: there was one.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from avfake.limits import Limits
from avfake.types import Prediction
from avfake.workers import Job, Models, cores, judge_each

SAMPLE = Path(__file__).parent.parent / "examples" / "sample.mp4"
AV1 = Path(__file__).with_name("av1.mp4")
"""Held, not made: the AV1 encoder at hand (SVT-AV1) gives a process of root's, and all that it
starts from then on, the highest real-time priority, before which no other process gets a turn."""
PICTURES = 15
SHAPE = (144, 176)
SOUND_RATE = 16_000
# Suffix and codecs of the clips to start from: containers and decoders that strangers' files use.
CLIPS: dict[str, tuple[str, str | None, str | None]] = {
    "h264": ("mp4", "libx264", "aac"),
    "fragments": ("mp4", "libx264", "aac"),
    "hevc": ("mp4", "libx265", "aac"),
    "cenc": ("mp4", "libx264", None),
    "prores": ("mov", "prores", "pcm_s16le"),
    "vp9": ("webm", "libvpx-vp9", "libopus"),
    "ffv1": ("mkv", "ffv1", "flac"),
    "mpeg4": ("avi", "mpeg4", "libmp3lame"),
    "mjpeg": ("avi", "mjpeg", "pcm_s16le"),
    "stream": ("ts", "libx264", "aac"),
    "mpeg2": ("mpg", "mpeg2video", "mp2"),
    "flv": ("flv", "flv", "aac"),
    "wmv": ("asf", "wmv2", "wmav2"),
    "vp8": ("ivf", "libvpx", None),
    "wav": ("wav", None, "pcm_s16le"),
    "aiff": ("aiff", None, "pcm_s16be"),
    "flac": ("flac", None, "flac"),
    "mp3": ("mp3", None, "libmp3lame"),
    "ogg": ("ogg", None, "libopus"),
    "m4a": ("m4a", None, "aac"),
    "gif": ("gif", "gif", None),
}
OPTIONS = {
    "fragments": {"movflags": "+frag_keyframe+empty_moov+default_base_moof"},
    "cenc": {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "00112233445566778899aabbccddeeff",
        "encryption_kid": "112233445566778899aabbccddeeff00",
    },
}
CODER = {
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libx264": {"preset": "veryfast", "g": "8"},
}
STILLS = ("png", "jpg", "webp", "bmp")
LIES = (0, 1, 2, 3, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
NESTED = b"moov trak mdia minf stbl edts udta dinf moof traf mvex meta".split()


@dataclass(frozen=True)
class Seed:
    """A sound file to damage."""

    name: str
    suffix: str
    data: bytes


def make_seeds() -> list[Seed]:
    """Small clips of the sample's face and voice, one of each kind; the same ones every time."""
    with av.open(str(SAMPLE)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)][:PICTURES]
    with av.open(str(SAMPLE)) as container:
        resampler = av.AudioResampler("flt", "mono", SOUND_RATE)
        parts = [p for f in container.decode(audio=0) for p in resampler.resample(f)]
        sound = np.concatenate([part.to_ndarray()[0] for part in parts])[: SOUND_RATE * 3 // 2]
    frames = [cv2.resize(f, SHAPE[::-1], interpolation=cv2.INTER_AREA) for f in frames]
    seeds = [Seed("av1", "mp4", AV1.read_bytes())]
    with tempfile.TemporaryDirectory() as folder:
        for name, (suffix, video, audio) in CLIPS.items():
            path = Path(folder) / f"{name}.{suffix}"
            _write(path, frames, sound, video, audio, OPTIONS.get(name, {}))
            seeds.append(Seed(name, suffix, path.read_bytes()))
    for suffix in STILLS:
        _, coded = cv2.imencode(f".{suffix}", frames[0][..., ::-1])
        seeds.append(Seed(suffix, suffix, coded.tobytes()))
    return seeds


def _write(
    path: Path,
    frames: list[np.ndarray],
    sound: np.ndarray,
    video_codec: str | None,
    audio_codec: str | None,
    options: dict[str, str],
) -> None:
    with av.open(str(path), "w", container_options={"fflags": "+bitexact", **options}) as out:
        video = audio = None
        if video_codec is not None:
            video = out.add_stream(video_codec, rate=25, options=CODER.get(video_codec, {}))
            video.height, video.width = SHAPE
            video.codec_context.thread_count = 1  # the same file on every machine, busy or not
            video.pix_fmt = {"prores": "yuv422p10le", "mjpeg": "yuvj420p", "gif": "rgb8"}.get(
                video_codec, "yuv420p"
            )
        if audio_codec is not None:
            audio = out.add_stream(audio_codec, rate=SOUND_RATE, layout="mono")
            audio.codec_context.bit_rate = 32_000
        if video is not None:
            for index, picture in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                out.mux(video.encode(frame))
            out.mux(video.encode())
        if audio is not None:
            wave = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            wave.sample_rate, wave.pts = SOUND_RATE, 0
            context = audio.codec_context
            resampler = av.AudioResampler(context.format, context.layout, context.sample_rate)
            for part in [*resampler.resample(wave), *resampler.resample(None)]:
                out.mux(audio.encode(part))
            out.mux(audio.encode())


# Mutations: each takes the file and may change it in place


def flip(data: bytearray, rng: np.random.Generator) -> None:
    for place in rng.integers(0, len(data), int(rng.integers(1, 32))):
        data[place] ^= 1 << int(rng.integers(8))


def overwrite(data: bytearray, rng: np.random.Generator) -> None:
    start, count = _span(data, rng, 256)
    way = int(rng.integers(3))
    data[start : start + count] = rng.bytes(count) if way == 0 else bytes([255 * (way - 1)]) * count


def cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[int(rng.integers(1, len(data) + 1)) :]


def remove(data: bytearray, rng: np.random.Generator) -> None:
    start, count = _span(data, rng, 4096)
    if count < len(data):
        del data[start : start + count]


def repeat(data: bytearray, rng: np.random.Generator) -> None:
    start, count = _span(data, rng, 4096)
    data[start:start] = data[start : start + count] * int(rng.integers(1, 8))


def lie(data: bytearray, rng: np.random.Generator) -> None:
    """A number of two, four or eight bytes becomes one that decoders stumble over."""
    size = int(rng.choice([2, 4, 8]))
    # Headers are where lies hurt: half of them go to the first two kilobytes.
    end = len(data) if rng.random() < 0.5 else min(len(data), 2048)
    if end > size:
        _put(data, int(rng.integers(0, end - size)), size, rng)


def lie_in_a_box(data: bytearray, rng: np.random.Generator) -> None:
    """In an MP4: a box's size, its name, or one of the first fields in it."""
    found = list(_boxes(data, 0, len(data)))
    if not found:
        lie(data, rng)
        return
    start, end = found[int(rng.integers(len(found)))]
    way = rng.random()
    if way < 0.2:
        _put(data, start, 4, rng)
    elif way < 0.3:
        other = found[int(rng.integers(len(found)))][0]
        data[start + 4 : start + 8] = data[other + 4 : other + 8]
    elif end - start >= 12:
        fields = min(16, (end - start - 8) // 4)
        _put(data, start + 8 + 4 * int(rng.integers(fields)), 4, rng)


def _put(data: bytearray, place: int, size: int, rng: np.random.Generator) -> None:
    order = ">" if rng.random() < 0.6 else "<"
    now = int.from_bytes(data[place : place + size], "big" if order == ">" else "little")
    value = int(rng.choice(LIES)) if rng.random() < 0.7 else now + int(rng.integers(-9, 10))
    code = {2: "H", 4: "I", 8: "Q"}[size]
    struct.pack_into(order + code, data, place, value & ((1 << 8 * size) - 1))


def _span(data: bytearray, rng: np.random.Generator, most: int) -> tuple[int, int]:
    start = int(rng.integers(len(data)))
    return start, min(int(rng.integers(1, most)), len(data) - start)


def _boxes(data: bytearray, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > end or not name.isalnum():
            return
        yield start, start + size
        if name in NESTED:
            yield from _boxes(data, start + 8, start + size)
        start += size


MUTATIONS: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    flip, overwrite, cut, remove, repeat, lie, lie, lie_in_a_box, lie_in_a_box
)  # fmt: skip


def damaged(seeds: list[Seed], seed: int, index: int) -> tuple[Seed, bytes]:
    """File number `index`, and the clip that it was."""
    rng = np.random.default_rng([seed, index])
    origin = seeds[int(rng.integers(len(seeds)))]
    data = bytearray(origin.data)
    if rng.random() < 0.1:  # a piece of another clip in the middle of this one
        other = seeds[int(rng.integers(len(seeds)))].data
        start, place = int(rng.integers(len(other))), int(rng.integers(len(data)))
        data[place:place] = other[start : start + int(rng.integers(1, 8192))]
    for _ in range(int(rng.integers(1, 7))):
        if data:
            MUTATIONS[int(rng.integers(len(MUTATIONS)))](data, rng)
    return origin, bytes(data)


# The run


@dataclass(frozen=True)
class Watched:
    """What a worker loads: a detector that tells the most memory that each file took."""

    def __call__(self) -> Watcher:
        return Watcher()


class Watcher:
    def __init__(self) -> None:
        self._judge = Models(threads=1)()

    def predict(self, path: str, longest: float | None = None) -> Prediction:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
        except OSError:
            return self._judge.predict(path, longest)
        prediction = self._judge.predict(path, longest)
        facts = Path("/proc/self/status").read_text().split("VmHWM:")[1]
        peak = int(facts.split()[0]) / 1024
        return replace(prediction, seconds={**prediction.seconds, "peak_mb": peak})


@dataclass
class Tally:
    """How it went so far."""

    ends: Counter[str]
    slowest: tuple[float, str] = (0.0, "none")
    largest: tuple[float, str] = (0.0, "none")
    faults: int = 0

    def add(self, prediction: Prediction, name: str, seconds: float) -> bool:
        """Count an answer; whether it is a fault."""
        # What a worker was lost over is told by its supervisor, who knows of no models.
        lost = not prediction.bundle
        fault = lost or prediction.reason == "internal_error"
        reason = f"/{prediction.reason}" if prediction.reason else ""
        self.ends[f"{prediction.status}{reason}{' (worker lost)' if lost else ''}"] += 1
        self.slowest = max(self.slowest, (seconds, name))
        self.largest = max(self.largest, (prediction.seconds.get("peak_mb", 0.0), name))
        self.faults += fault
        return fault

    def show(self) -> None:
        for end, count in self.ends.most_common():
            print(f"{count:8d}  {end}")
        print(f"slowest   {self.slowest[0]:.2f} s ({self.slowest[1]})")
        print(f"largest   {self.largest[0]:.0f} MB ({self.largest[1]})")


def run(
    seeds: list[Seed],
    seed: int,
    indices: Iterator[int],
    keep: Path,
    workers: int,
    timeout: float,
) -> Tally:
    """Judge the files of these numbers; whatever is a fault is copied to the folder `keep`."""
    tally = Tally(Counter())
    begun: dict[Job, float] = {}

    def jobs(folder: Path) -> Iterator[Job]:
        for index in indices:
            origin, data = damaged(seeds, seed, index)
            path = folder / f"{seed}-{index}-{origin.name}.{origin.suffix}"
            path.write_bytes(data)
            job = Job(path, timeout=timeout)
            begun[job] = time.monotonic()
            yield job

    with tempfile.TemporaryDirectory() as temporary:
        answers = judge_each(jobs(Path(temporary)), Watched(), workers, memory=Limits.memory)
        for job, prediction in answers:
            path = Path(job.path)
            waited = time.monotonic() - begun.pop(job)
            seconds = prediction.seconds.get("total", waited)
            if tally.add(prediction, path.name, seconds):
                keep.mkdir(parents=True, exist_ok=True)
                (keep / path.name).write_bytes(path.read_bytes())
                print(f"{keep / path.name}: {prediction.reason}: {prediction.message}", flush=True)
            path.unlink()
    return tally


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="clips to start from")
    parser.add_argument("--seconds", type=float, default=600.0, help="then no more (default: 600)")
    parser.add_argument("--count", type=int, help="that many files, if time allows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, metavar="I", help="number of the first")
    parser.add_argument("--keep", type=Path, default=Path("fuzz"), metavar="FOLDER")
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--timeout", type=float, default=60.0, help="for one file (default: 60 s)")
    options = parser.parse_args(arguments)
    seeds = [Seed(p.stem, p.suffix.lstrip("."), p.read_bytes()) for p in options.files]
    seeds = seeds or make_seeds()
    print(f"{len(seeds)} clips of {sum(len(s.data) for s in seeds) / 1e6:.1f} MB", flush=True)
    deadline = time.monotonic() + options.seconds
    last = sys.maxsize if options.count is None else options.start + options.count

    def indices() -> Iterator[int]:
        index = options.start
        while index < last and time.monotonic() < deadline:
            yield index
            index += 1

    started = time.monotonic()
    tally = run(seeds, options.seed, indices(), options.keep, options.workers, options.timeout)
    spent = time.monotonic() - started
    print(f"{sum(tally.ends.values())} files in {spent:.0f} s, seed {options.seed}")
    tally.show()
    print(f"{tally.faults} faults")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
