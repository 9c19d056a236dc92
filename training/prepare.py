"""Media packs -> what the visual and lip-sync recipes read: face pictures and face tracks.

    python -m training.prepare --data PACKS --out prepared [--face-model yunet.onnx]

`PACKS/SOURCES.tsv` lists the media (path, split, kind, label, group). Written are

- `faces.csv` and `faces/*.png`: the surroundings of a face (2.2 box sizes, longest side <= 320)
  from pictures and, twice a second, from clips; with its box, the finder's score (1 where it was
  followed through a clip) and, where there are any, 5 points;
- `tracks.csv` and `tracks/*.npz`: talking faces at 25 pictures a second: `faces` uint8
  [T, 144, 144] grey (1.5 box sizes round the face) and `sound` float32 [T * 640], on one clock.

A run that was stopped goes on where it was; what could not be used stands in `skipped.csv`.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from avfake.crops import box_size, cut
from avfake.faces import FaceFinder, load_finder
from avfake.media import Clip
from avfake.tracks import SEARCH_EVERY, Stretch, Tracker, blocks
from avfake.types import FRAME_RATE, SAMPLE_RATE, AvfakeError, Detection

FACE_CONTEXT = 2.2  # side of a stored face picture, in box sizes
FACE_LONGEST = 320  # pixels
TRACK_CONTEXT = 1.5  # side of a stored track picture, in box sizes
TRACK_SIZE = 144  # pixels
SAMPLES_PER_PICTURE = round(SAMPLE_RATE / FRAME_RATE)
POINTS = [f"p{i}{axis}" for i in range(5) for axis in "xy"]
FACE_COLUMNS = [
    *("path", "split", "label", "group", "source", "clip", "time", "score"),
    *("left", "top", "right", "bottom"),
    *POINTS,
]
TRACK_COLUMNS = ["path", "split", "label", "group", "source", "clip", "frames", "start"]


@dataclass(frozen=True)
class Item:
    """One row of SOURCES.tsv. `source` is the pack's folder, such as talking/grid."""

    path: str
    split: str
    kind: str
    label: int
    group: str

    @property
    def source(self) -> str:
        return "/".join(self.path.split("/")[:2])


def read_sources(root: Path) -> list[Item]:
    """The rows of `root/SOURCES.tsv`, in its order.

    MEAD's actors (M003 and the like in a group's name) are one person each in every pack.
    """
    table = pd.read_csv(root / "SOURCES.tsv", sep="\t", dtype=str, keep_default_na=False)
    return [
        Item(row.path, row.split, row.kind, int(row.label == "fake"), person(row.group))
        for row in table.itertuples()
    ]


def person(group: str) -> str:
    """Who a group is: the actor where MEAD's naming tells, else the group itself."""
    actor = re.search(r"(?:^|[_-])([MW]\d{3})(?:[_.-]|$)", group)
    return f"mead-{actor[1]}" if actor else group


class Tables:
    """Two growing CSV files and a list of what is done, so that a stopped run can go on."""

    def __init__(self, out: Path) -> None:
        self.out = out
        for folder in ("faces", "tracks"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        done = out / "done.txt"
        self.done = set(done.read_text().splitlines()) if done.exists() else set()
        # Rows of an item that a kill left half done are written again.
        for name, key in (("faces.csv", "clip"), ("tracks.csv", "clip"), ("skipped.csv", "path")):
            if (out / name).exists():
                table = pd.read_csv(out / name, dtype=str, keep_default_na=False)
                whole = table[key].isin(self.done)
                if not whole.all():
                    table[whole].to_csv(out / name, index=False, lineterminator="\r\n")

    def add(self, name: str, columns: list[str], rows: list[dict[str, object]]) -> None:
        path = self.out / name
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, columns)
            if fresh:
                writer.writeheader()
            writer.writerows(rows)

    def finish(self, item: Item) -> None:
        self.done.add(item.path)
        with (self.out / "done.txt").open("a") as file:
            file.write(item.path + "\n")


def prepare(root: Path, out: Path, finder: FaceFinder) -> None:
    """Prepare all pictures and clips of the packs at `root`; sound-only items are left alone."""
    tables = Tables(out)
    items = [item for item in read_sources(root) if item.kind != "speech"]
    for count, item in enumerate(items):
        if item.path in tables.done:
            continue
        stem = item.path.replace("/", "-").replace(".", "-")
        try:
            with Clip(root / item.path) as clip:
                if clip.info.is_image:
                    rows, tracks = _prepare_image(clip, item, stem, out, finder), []
                else:
                    rows, tracks = _prepare_clip(clip, item, stem, out, finder)
        except AvfakeError as error:
            tables.add("skipped.csv", ["path", "why"], [{"path": item.path, "why": error.reason}])
            tables.finish(item)
            continue
        if not rows:
            tables.add("skipped.csv", ["path", "why"], [{"path": item.path, "why": "no_face"}])
        tables.add("faces.csv", FACE_COLUMNS, rows)
        tables.add("tracks.csv", TRACK_COLUMNS, tracks)
        tables.finish(item)
        if count % 100 == 0:
            print(f"{count}/{len(items)} {item.path}", flush=True)


def _prepare_image(
    clip: Clip, item: Item, stem: str, out: Path, finder: FaceFinder
) -> list[dict[str, object]]:
    (picture,) = clip.pictures(1)
    assert picture.colour is not None
    colour = picture.colour
    # Packs of crops are cut tight: with a border the finder sees a face's edge as well.
    edge = max(colour.shape[:2]) // 4
    padded = cv2.copyMakeBorder(colour, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
    found = sorted(finder.find(padded), key=lambda d: -box_size(d.box) * d.score)
    if not found or box_size(found[0].box) < 24:
        return []
    shift = np.float32(edge)
    points = found[0].points
    face = Detection(
        found[0].box - shift, found[0].score, None if points is None else points - shift
    )
    return [_store_face(colour, face, item, out / "faces" / f"{stem}.png", 0.0)]


def _prepare_clip(
    clip: Clip, item: Item, stem: str, out: Path, finder: FaceFinder
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    sound = clip.sound()
    tracker = Tracker(finder)
    rows: list[tuple[int, dict[str, object]]] = []
    grey: dict[int, list[np.ndarray]] = {}
    for number, stretches in enumerate(_tracked(clip, tracker)):
        for stretch in stretches:
            for box, picture in zip(stretch.boxes, stretch.pictures, strict=True):
                side = TRACK_CONTEXT * box_size(box) / picture.scale
                centre = (box[:2] + box[2:]) / 2 / picture.scale
                grey.setdefault(stretch.track, []).append(
                    cut(picture.luma, (centre[0], centre[1]), side, TRACK_SIZE)
                )
            last = stretch.pictures[-1]
            # Every second search in colour: about two pictures a second.
            if number % 2 == 0 and stretch.found[-1] and last.colour is not None:
                face = Detection(stretch.boxes[-1] / last.colour_scale, 1.0)
                name = f"{stem}-{stretch.track}-{number:04d}.png"
                row = _store_face(last.colour, face, item, out / "faces" / name, last.time)
                rows.append((stretch.track, row))
    tracks: list[dict[str, object]] = []
    for track in tracker.tracks():
        count = len(track.times)
        if sound is None or count < FRAME_RATE or box_size(track.boxes[0]) < 40:
            continue
        speech = sound.between(track.start, track.start + count / FRAME_RATE)
        name = f"tracks/{stem}-{track.index}.npz"
        np.savez(
            out / name,
            faces=np.array(grey[track.index], np.uint8),
            sound=speech[: count * SAMPLES_PER_PICTURE],
        )
        tracks.append(
            {
                "path": name,
                "split": item.split,
                "label": item.label,
                "group": item.group,
                "source": item.source,
                "clip": item.path,
                "frames": count,
                "start": round(track.start, 3),
            }
        )
    kept = {track.index for track in tracker.tracks()}
    return [row for track, row in rows if track in kept], tracks


def _tracked(clip: Clip, tracker: Tracker) -> Iterator[list[Stretch]]:
    for block in blocks(clip.pictures(SEARCH_EVERY)):
        yield tracker.advance(block)


def _store_face(
    colour: np.ndarray, face: Detection, item: Item, path: Path, time: float
) -> dict[str, object]:
    """Write the face's surroundings; return its row, with box and points in the new picture."""
    reach = FACE_CONTEXT * box_size(face.box) / 2
    x, y = (face.box[:2] + face.box[2:]) / 2
    left, top = max(0, round(float(x - reach))), max(0, round(float(y - reach)))
    part = colour[top : round(float(y + reach)), left : round(float(x + reach))]
    factor = min(1.0, FACE_LONGEST / max(part.shape[:2]))
    if factor < 1:
        part = cv2.resize(part, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), cv2.cvtColor(part, cv2.COLOR_RGB2BGR))
    origin = np.array([left, top], np.float32)
    corners = (face.box.reshape(2, 2) - origin) * factor
    points = [""] * 10
    if face.points is not None:
        points = [round(float(v), 2) for v in ((face.points - origin) * factor).ravel()]
    return {
        "path": f"faces/{path.name}",
        "split": item.split,
        "label": item.label,
        "group": item.group,
        "source": item.source,
        "clip": item.path,
        "time": round(time, 3),
        "score": round(face.score, 4),
        **dict(
            zip(
                ("left", "top", "right", "bottom"),
                (round(float(v), 2) for v in corners.ravel()),
                strict=True,
            )
        ),
        **dict(zip(POINTS, points, strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds SOURCES.tsv")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--face-model", help="YuNet ONNX file; without it dlib finds the faces")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    prepare(options.data, options.out, load_finder(options.face_model))


if __name__ == "__main__":
    main()
