"""How well are faces found, and how fast? Finders against an oracle, picture by picture.

    python -m benchmarks.faces --oracle yunet.onnx --data PACKS [--clips-only] [--unseen]

Looks at the clips and stills of the packs, by part: people that the bundle's finder was trained on,
people held out, and the dev split. For each finder and part:

- recall: of the oracle's sure faces (score >= 0.8, >= 24 px at 640 px), found with IoU >= 0.5;
- precision: of the finds of >= 24 px, those where the oracle saw a face too (score >= 0.5);
- the median IoU, and the median error of the 5 points in shares of the box;
- milliseconds a picture, on one core, resizing included.

With --convention also the medians from which `DlibFinder` translates its boxes into the common
convention.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import dlib
import numpy as np

from avfake.bundle import load_bundle
from avfake.faces import BundledFinder, DlibFinder, FaceFinder, YuNetFinder, overlap
from avfake.media import Clip
from avfake.types import AvfakeError, Detection
from training.datasets import packs
from training.finder_data import KINDS
from training.manifest import HELD_OUT, hashed

SIDE = 640  # pixels: the scale at which sizes are counted
SURE, FAINT, SMALLEST = 0.8, 0.5, 24
VIEWS = ("front", "left profile", "right profile", "rolled left", "rolled right")


@dataclass
class Tally:
    """What one finder did in one part of the packs."""

    pictures: int = 0
    wanted: int = 0
    finds: int = 0
    right: int = 0
    overlaps: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, found: list[Detection], oracle: list[Detection], least: float) -> None:
        """Count one picture; faces under `least` pixels are not asked for, nor counted."""
        self.pictures += 1
        for face in oracle:
            if face.score < SURE or _side(face) < least:
                continue
            self.wanted += 1
            near = max(found, key=lambda own: overlap(own.box, face.box), default=None)
            if near is None or overlap(near.box, face.box) < 0.5:
                continue
            self.overlaps.append(overlap(near.box, face.box))
            if near.points is not None and face.points is not None:
                error = np.linalg.norm(near.points - face.points, axis=1).mean()
                self.errors.append(float(error / np.sqrt(np.prod(face.box[2:] - face.box[:2]))))
        for own in found:
            if _side(own) >= least:
                self.finds += 1
                self.right += any(
                    face.score >= FAINT and overlap(own.box, face.box) >= 0.5 for face in oracle
                )

    def line(self) -> str:
        def share(part: int, whole: int) -> str:
            return f"{part / whole:6.1%}" if whole else "     -"

        iou = f"{np.median(self.overlaps):.2f}" if self.overlaps else "   -"
        points = f"{np.median(self.errors):6.1%}" if self.errors else "     -"
        return (
            f"{self.pictures:6d} {self.wanted:6d} {share(len(self.overlaps), self.wanted)} "
            f"{self.finds:6d}    {share(self.right, self.finds)} {iou} {points} "
            f"{1e3 * float(np.median(self.seconds)):6.1f}"
        )


def _side(face: Detection) -> float:
    return float(min(face.box[2:] - face.box[:2]))


def part_of(split: str, group: str) -> str:
    if split == "dev":
        return "dev"
    return "held out" if hashed(group, HELD_OUT) == 0 else "trained on"


def pictures(path: Path, seconds: float) -> Iterator[np.ndarray]:
    """A still, or every so many seconds a picture of a clip; uint8 RGB."""
    with Clip(path) as clip:
        for picture in clip.pictures(max(1, round(25 * seconds))):
            if picture.colour is not None:
                yield picture.colour


def convention(picture: np.ndarray, face: Detection) -> list[tuple[int, tuple[float, ...]]]:
    """(view, shift right, shift down, width, height) of the oracle's box in sides of dlib's."""
    detector = dlib.get_frontal_face_detector()
    factor = min(960 / max(picture.shape[:2]), 3.0)
    grey = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), None, fx=factor, fy=factor)
    left, top, right, bottom = face.box * factor
    rows = []
    for found, _, view in zip(*detector.run(grey, 0, 0.0), strict=True):
        side = found.width()
        across = ((left + right) - (found.left() + found.right())) / 2 / side
        down = ((top + bottom) - (found.top() + found.bottom())) / 2 / side
        if abs(across) < 0.5 and abs(down) < 0.5:
            shape = ((right - left) / side, (bottom - top) / side)
            rows.append((int(view), (across, down, *shape)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faces", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--oracle", type=Path, required=True, help="YuNet, ONNX")
    parser.add_argument("--data", type=Path, required=True, help="folder with SOURCES.tsv")
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--seconds", type=float, default=1.0, help="between pictures of a clip")
    parser.add_argument("--clips-only", action="store_true", help="leave stills out")
    parser.add_argument("--convention", action="store_true", help="measure dlib's boxes, too")
    parser.add_argument("--unseen", action="store_true", help="leave out people trained on")
    parser.add_argument("--every", type=int, default=1, help="look at every n-th file only")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    oracle = YuNetFinder(options.oracle, side=SIDE, threshold=FAINT)
    finders: list[FaceFinder] = [BundledFinder.of(load_bundle(options.bundle)), DlibFinder()]
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    views: dict[int, list[tuple[float, ...]]] = defaultdict(list)
    files = packs.prepare(options.data).table
    files = files[files["kind"].isin(KINDS)]
    if options.clips_only:
        files = files[files["kind"] != "face"]
    if options.unseen:
        aside = [part_of(*row) != "trained on" for row in files[["split", "group"]].to_numpy()]
        files = files[aside]
    for path, split, group in files[["path", "split", "group"]].to_numpy()[:: options.every]:
        part = part_of(split, group)
        try:
            for picture in pictures(options.data / path, options.seconds):
                seen = oracle.find(picture)
                least = SMALLEST * max(picture.shape[:2]) / SIDE
                for finder in finders:
                    tally = tallies[finder.name, part]
                    started = time.perf_counter()
                    found = finder.find(picture)
                    tally.seconds.append(time.perf_counter() - started)
                    tally.add(found, seen, least)
                for face in seen[:1] if options.convention else []:
                    for view, row in convention(picture, face):
                        views[view].append(row)
        except AvfakeError as error:
            print(f"{path}: {error}")
    print("finder   part        pictures wanted recall  finds precision  IoU points     ms")
    for (name, part), tally in sorted(tallies.items()):
        print(f"{name:8s} {part:11s} {tally.line()}")
    if views:
        print("\ndlib's square -> common box, in sides: view, faces, right, down, width, height")
    for number, rows in sorted(views.items()):
        figures = "  ".join(f"{v:6.3f}" for v in np.median(rows, axis=0))
        print(f"  {VIEWS[number]:14s} {len(rows):5d}  {figures}")


if __name__ == "__main__":
    main()
