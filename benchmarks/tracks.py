"""How well are faces followed? Compares tracks with an oracle that looks at pictures one by one.

    python -m benchmarks.tracks --oracle yunet.onnx [--face-model dlib] CLIP [CLIP ...]

For each clip: of the oracle's confident faces (the largest of a picture, score >= 0.8, in the
middle between two searches), the share that a track covers with IoU >= 0.5, the median IoU, and the
seconds that tracking took.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from avfake.faces import FaceFinder, YuNetFinder, load_finder, overlap
from avfake.media import Clip
from avfake.tracks import SEARCH_EVERY, Tracker, blocks
from avfake.types import AvfakeError, Detection, Track


def follow(path: Path, finder: FaceFinder, oracle: FaceFinder) -> tuple[list[float], float]:
    """(IoU of the track nearest to each of the oracle's faces, seconds spent tracking)."""
    tracker, wanted, busy = Tracker(finder), [], 0.0
    with Clip(path) as clip:
        for block in blocks(clip.pictures(SEARCH_EVERY)):
            started = time.perf_counter()
            tracker.advance(block)
            busy += time.perf_counter() - started
            middle = block[len(block) // 2]
            face = _largest(oracle.find(cv2.cvtColor(middle.luma, cv2.COLOR_GRAY2RGB)))
            if face is not None:
                wanted.append((middle.time, face.box * middle.scale))
    tracks = tracker.tracks()
    return [_covered(tracks, time_, box) for time_, box in wanted], busy


def _largest(found: list[Detection]) -> Detection | None:
    sure = [face for face in found if face.score >= 0.8]
    return max(sure, key=lambda f: f.box[2] - f.box[0], default=None)


def _covered(tracks: list[Track], when: float, box: np.ndarray) -> float:
    best = 0.0
    for track in tracks:
        nearest = int(np.argmin(np.abs(track.times - when)))
        if abs(track.times[nearest] - when) < 0.02:
            best = max(best, overlap(track.boxes[nearest], box))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tracks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--oracle", type=Path, required=True, help="YuNet, ONNX")
    parser.add_argument("--face-model", help="what to measure (default: the bundle's own finder)")
    options = parser.parse_args()
    oracle, finder = YuNetFinder(options.oracle), load_finder(options.face_model)
    everything: list[float] = []
    covered, seconds = 0, 0.0
    for path in options.clips:
        try:
            values, busy = follow(path, finder, oracle)
        except AvfakeError as error:
            print(f"{path.name}: {error}")
            continue
        seconds += busy
        if not values:
            print(f"{path.name:50s} the oracle sees no face")
            continue
        share = np.mean(np.array(values) >= 0.5)
        covered += share >= 0.95
        everything += values
        print(f"{path.name:50s} covered {share:4.0%}  IoU {np.median(values):.2f}  {busy:5.2f} s")
    if not everything:
        print("no faces at all")
        return
    print(
        f"\n{finder.name}: {covered} clips covered >= 95%; all faces: covered "
        f"{np.mean(np.array(everything) >= 0.5):.1%}, median IoU {np.median(everything):.2f}, "
        f"{seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
