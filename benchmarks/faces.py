"""How well are faces followed? Compares tracks with an oracle that looks at pictures one by one.

    python -m benchmarks.faces --face-model yunet.onnx CLIP [CLIP ...]

For each clip: of the oracle's confident faces (the largest of a picture, score >= 0.8, in the
middle between two searches), the share that a track covers with IoU >= 0.5, and the median IoU.
Then the medians from which `DlibFinder` translates its boxes into the common convention.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import dlib
import numpy as np

from avfake.faces import FaceFinder, YuNetFinder, load_finder, overlap
from avfake.media import Clip
from avfake.tracks import SEARCH_EVERY, Tracker, blocks
from avfake.types import AvfakeError, Detection, Track

VIEWS = ("front", "left profile", "right profile", "rolled left", "rolled right")


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


def convention(path: Path, oracle: FaceFinder) -> list[tuple[int, float, float, float, float]]:
    """(view, shift right, shift down, width, height) of the oracle's box in sides of dlib's."""
    detector = dlib.get_frontal_face_detector()
    rows = []
    with Clip(path) as clip:
        for picture in clip.pictures(50):
            if picture.colour is None:
                continue
            face = _largest(oracle.find(picture.colour))
            if face is None:
                continue
            factor = min(960 / max(picture.colour.shape[:2]), 3.0)
            grey = cv2.resize(
                cv2.cvtColor(picture.colour, cv2.COLOR_RGB2GRAY), None, fx=factor, fy=factor
            )
            left, top, right, bottom = face.box * factor
            for found, _, view in zip(*detector.run(grey, 0, 0.0), strict=True):
                side = found.width()
                across = ((left + right) - (found.left() + found.right())) / 2 / side
                down = ((top + bottom) - (found.top() + found.bottom())) / 2 / side
                if abs(across) < 0.5 and abs(down) < 0.5:
                    shape = ((right - left) / side, (bottom - top) / side)
                    rows.append((int(view), across, down, *shape))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--face-model", type=Path, required=True, help="the oracle: YuNet, ONNX")
    parser.add_argument("--finder", default="dlib", help="what to measure: dlib or an ONNX file")
    options = parser.parse_args()
    oracle, finder = YuNetFinder(options.face_model), load_finder(options.finder)
    everything: list[float] = []
    views: list[tuple[int, float, float, float, float]] = []
    covered = 0
    for path in options.clips:
        try:
            values, busy = follow(path, finder, oracle)
            views += convention(path, oracle)
        except AvfakeError as error:
            print(f"{path.name}: {error}")
            continue
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
        f"\n{covered} clips covered >= 95 %; all faces: covered "
        f"{np.mean(np.array(everything) >= 0.5):.1%}, median IoU {np.median(everything):.2f}"
    )
    print("\ndlib's square -> common box, in sides: view, faces, right, down, width, height")
    for number, name in enumerate(VIEWS):
        rows_here = [row[1:] for row in views if row[0] == number]
        if rows_here:
            figures = "  ".join(f"{v:6.3f}" for v in np.median(rows_here, axis=0))
            print(f"  {name:14s} {len(rows_here):5d}  {figures}")


if __name__ == "__main__":
    main()
