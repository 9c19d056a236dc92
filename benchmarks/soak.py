"""Does a long batch leak? What it holds at most in its last quarter, against its first.

    python -m benchmarks.soak                 2,000 small files, half of them in zips
    python -m benchmarks.soak --items 192

The files are short clips that talk or are silent, sound, stills, and damaged ones. After each row
it looks at the parent, at its workers and into the temporary folder. The first items are left out:
caches and arenas fill, by some 60 MB a worker and whatever is judged. Linux and macOS.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
import wave
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import av
import psutil
from PIL import Image

from avfake.batch import Outcome, Progress, run
from avfake.bundle import load_bundle
from avfake.limits import Limits
from avfake.scores import Scores
from avfake.sources import Files
from avfake.workers import Models, cores, judge_each

SAMPLE = Path(__file__).parent.parent / "examples" / "sample.mp4"
WARM_UP = 64
"""Items that are left out: with two workers, each has seen every kind some four times."""
PARTS = 4


@dataclass(frozen=True)
class Look:
    """What a run holds at one moment: resident MB of the parent and of its largest worker, open
    files and pipes of the parent, files in the temporary folder."""

    parent: float
    worker: float
    descriptors: float
    temporary: float


def make_files(folder: Path, count: int) -> list[str]:
    """`count` small files, by turns of each kind, in four folders and as many zips. Returns these
    in the order in which they are to be judged."""
    masters = _masters()
    sources = []
    for part in range(PARTS):
        clips, packed = folder / f"{part}", folder / f"{part}.zip"
        clips.mkdir()
        sources += [str(clips), str(packed)]
        with zipfile.ZipFile(packed, "w") as archive:
            for number in range(part * count // PARTS, (part + 1) * count // PARTS):
                suffix, content = masters[number % len(masters)]
                name = f"{number:05d}{suffix}"
                if number // len(masters) % 2:
                    archive.writestr(name, content)
                else:
                    (clips / name).write_bytes(content)
    return sources


def soak(
    inputs: Sequence[str], out: Path, temporary: Path, workers: int, bundle: str = "default"
) -> tuple[Outcome, list[Look]]:
    """Judge `inputs` and look after each row; `temporary` is where files are unpacked."""
    looks: list[Look] = []
    loaded = load_bundle(bundle)
    models = Models(bundle, threads=1)
    engine = partial(judge_each, load=models, workers=workers, memory=Limits().memory, attempts=2)
    with Files(inputs) as files, Scores(out, loaded.sha256, {}) as scores:

        def look(progress: Progress) -> None:
            looks.append(_look(temporary))

        outcome = run(files, scores, engine, loaded.to_dict(), brief=True, tell=look)
    return outcome, looks


def quarters(looks: Sequence[Look]) -> dict[str, tuple[float, float]]:
    """Name of a figure -> the most in the first quarter after warming up, and in the last.

    Raises `ValueError` where too few items are left: what fills would look like a leak.
    """
    quarter = (len(looks) - WARM_UP) // PARTS
    if quarter < 1:
        raise ValueError(f"a soak needs more than {WARM_UP + PARTS} items")
    first, last = looks[WARM_UP : WARM_UP + quarter], looks[-quarter:]
    return {
        field.name: (
            max(getattr(one, field.name) for one in first),
            max(getattr(one, field.name) for one in last),
        )
        for field in fields(Look)
    }


def _look(temporary: Path) -> Look:
    parent = psutil.Process()
    held = [0]
    for child in parent.children(recursive=True):
        try:
            held.append(child.memory_info().rss)
        except psutil.Error:  # it has just ended
            continue
    unpacked = sum(path.is_file() for path in temporary.rglob("*"))
    return Look(parent.memory_info().rss / 1e6, max(held) / 1e6, parent.num_fds(), unpacked)


def _masters() -> list[tuple[str, bytes]]:
    """(suffix, content) of one small file of each kind."""
    whole = SAMPLE.read_bytes()
    silence = io.BytesIO()
    with wave.open(silence, "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes(bytes(2 * 16_000))
    with av.open(str(SAMPLE)) as clip:
        face = next(clip.decode(video=0)).to_image()
    still, grey = io.BytesIO(), io.BytesIO()
    face.save(still, "JPEG")
    Image.new("RGB", (64, 64), (90, 90, 90)).save(grey, "PNG")
    return [
        (".mp4", _cut(2.0)),
        (".wav", silence.getvalue()),
        (".jpg", still.getvalue()),
        (".mp4", _cut(1.0, with_sound=False)),
        (".mp4", whole[:30_000]),
        (".png", grey.getvalue()),
        (".mp4", whole[:500] + bytes(2000) + whole[2500:40_000]),
        (".mkv", b"no film"),
    ]


def _cut(seconds: float, with_sound: bool = True) -> bytes:
    """The sample's first seconds, its packets as they are."""
    out = io.BytesIO()
    with av.open(str(SAMPLE)) as given, av.open(out, "w", format="mp4") as made:
        chosen = given.streams if with_sound else given.streams.video
        streams = {stream.index: made.add_stream_from_template(stream) for stream in chosen}
        for packet in given.demux(*chosen):
            if packet.dts is not None and packet.dts * packet.time_base < seconds:
                packet.stream = streams[packet.stream.index]
                made.mux(packet)
    return out.getvalue()


def report(outcome: Outcome, looks: Sequence[Look], say: Callable[[str], None] = print) -> None:
    """The figures, for people."""
    say(json.dumps(outcome.to_dict()))
    say(f"{outcome.seconds / max(1, outcome.judged):.3f} s a file")
    say("                      first quarter  last quarter")
    units = {
        "parent": "parent, MB",
        "worker": "largest worker, MB",
        "descriptors": "open files and pipes",
        "temporary": "temporary files",
    }
    for name, (first, last) in quarters(looks).items():
        say(f"{units[name]:21s} {first:14.1f} {last:13.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=0, help="default: one a core")
    parser.add_argument("--bundle", default="default")
    options = parser.parse_args()
    if options.items < 2 * WARM_UP:
        parser.error(f"--items must be at least {2 * WARM_UP}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as temporary:
        inputs = make_files(Path(folder), options.items)
        tempfile.tempdir = temporary  # nothing of others is there
        outcome, looks = soak(
            inputs,
            Path(folder, "scores.jsonl"),
            Path(temporary),
            options.workers or cores(),
            options.bundle,
        )
    report(outcome, looks)
    print(f"{time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
