"""How much longer than decoding alone does a prediction take? Prints ratios, all from one run.

    python -m benchmarks.predict clip.mp4
    python -m benchmarks.predict 1080p.mp4 --make     makes it first: 10 s, 1080p

Decoding alone is PyAV over all frames and all sound. `predict` runs in a process of its own, so
that peak memory is that of a user's process; its second run is timed. Cold start is the whole
`avfake predict` command, once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WORKER = """
import json, resource, sys, time
from avfake import Detector
started = time.perf_counter()
detector = Detector.from_pretrained({bundle!r})
load = time.perf_counter() - started
detector.predict({path!r})  # the first run of a graph plans its memory
started = time.perf_counter()
prediction = detector.predict({path!r})
spent = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
stages = prediction.to_dict()["seconds"]
print(json.dumps(dict(load=load, spent=spent, stages=stages, peak=peak, status=prediction.status)))
"""


def decode_only(path: Path) -> float:
    """Seconds for PyAV to decode every frame and all sound, frame threading on."""
    started = time.perf_counter()
    with av.open(str(path)) as container:
        for stream in (*container.streams.video[:1], *container.streams.audio[:1]):
            stream.thread_type = "AUTO"
        for _ in container.decode(*container.streams.video[:1], *container.streams.audio[:1]):
            pass
    return time.perf_counter() - started


def make_clip(path: Path, source: Path, seconds: float = 10.0, fps: int = 30) -> None:
    """A 1080p H.264 clip: the sample's picture over moving grain, and its sound, for `seconds`."""
    with av.open(str(source)) as container:
        small = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(source)) as container:
        sound = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1)
        rate = container.streams.audio[0].codec_context.sample_rate
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 3, (1200, 2000)).astype(np.float32)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=fps, options={"crf": "20"})
        video.width, video.height, video.pix_fmt = 1920, 1080, "yuv420p"
        audio = out.add_stream("aac", rate=rate, layout="mono")
        for index in range(round(seconds * fps)):
            picture = small[round(index * 25 / fps) % len(small)]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            large = np.zeros((1080, 1920, 3), np.float32)
            large[:, 420:1500] = frame.reformat(1080, 1080).to_ndarray()
            top, left = rng.integers(0, 80, 2)
            large += grain[top : top + 1080, left : left + 1920, None]
            frame = av.VideoFrame.from_ndarray(
                np.clip(large, 0, 255).astype(np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = index, Fraction(1, fps)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        wave = av.AudioFrame.from_ndarray(
            np.resize(sound, (1, round(seconds * rate))), format="fltp", layout="mono"
        )
        wave.sample_rate, wave.pts = rate, 0
        out.mux(audio.encode(wave))
        out.mux(audio.encode())


def measure(path: Path, bundle: str, repeats: int) -> dict[str, object]:
    """All figures for one clip, in seconds, MB and ratios."""
    decodes, totals, stages, loads, peaks = [], [], [], [], []
    # Decoding and predicting by turns: a slow minute of the machine then slows both.
    for _ in range(repeats):
        decodes.append(decode_only(path))
        code = WORKER.format(bundle=bundle, path=str(path))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        answer = json.loads(done.stdout)
        if answer["status"] == "error":
            raise RuntimeError(f"{path} could not be scored")
        totals.append(answer["spent"])
        stages.append(answer["stages"])
        loads.append(answer["load"])
        peaks.append(answer["peak"])
    started = time.perf_counter()
    command = [sys.executable, "-m", "avfake.cli", "predict", "--json", "--bundle", bundle]
    subprocess.run([*command, str(path)], stdout=subprocess.DEVNULL, check=True)
    cold = time.perf_counter() - started
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "avfake.cli", "--help"], stdout=subprocess.DEVNULL, check=True
    )
    shown = time.perf_counter() - started
    names = [name for name in stages[0] if name != "total"]
    return {
        "decode_only_seconds": statistics.median(decodes),
        "predict_seconds": statistics.median(totals),
        "ratio": statistics.median(t / d for t, d in zip(totals, decodes, strict=True)),
        "busy_share": {
            name: statistics.median(s.get(name, 0.0) / s["total"] for s in stages) for name in names
        },
        "load_seconds": statistics.median(loads),
        "peak_memory_mb": max(peaks),
        "cold_start_seconds": cold,
        "help_seconds": shown,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.predict", description=__doc__.splitlines()[0]
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--make", action="store_true", help="make the clip from the sample first")
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.make:
        sample = Path(__file__).parent.parent / "examples" / "sample.mp4"
        make_clip(options.clip, sample)
    figures = measure(options.clip, options.bundle, options.repeats)
    print(f"decode only        {figures['decode_only_seconds']:6.2f} s")
    print(f"Detector.predict   {figures['predict_seconds']:6.2f} s")
    print(f"ratio              {figures['ratio']:6.2f}")
    print("busy, of the prediction's time (stages overlap):")
    for name, share in figures["busy_share"].items():  # type: ignore[attr-defined]
        print(f"  {name:16s} {share:6.0%}")
    print(f"loading the models {figures['load_seconds']:6.2f} s")
    print(f"peak memory        {figures['peak_memory_mb']:6.0f} MB")
    print(f"cold start         {figures['cold_start_seconds']:6.2f} s  (avfake predict, all of it)")
    print(f"avfake --help      {figures['help_seconds']:6.2f} s")


if __name__ == "__main__":
    main()
