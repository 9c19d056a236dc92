"""One clip or picture -> the face pictures and face tracks that the recipes train on.

A face picture is the surroundings of a face (2.2 box sizes, longest side <= 320) from a picture or,
about twice a second, from a clip; with its box, the finder's score (1 where it was followed through
a clip) and, where there are any, 5 points. Within forged seconds that the data set names, every
picture that a face was searched in is kept, some five in two seconds.

A track is a talking face at 25 pictures a second: uint8 [T, 144, 144] grey (1.5 box sizes round the
face) and its sound, float32 [T * 640], on one clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avfake.crops import box_size, cut
from avfake.faces import FaceFinder, load_finder
from avfake.media import Clip
from avfake.tracks import SEARCH_EVERY, Stretch, Tracker, blocks
from avfake.types import FRAME_RATE, SAMPLE_RATE, Detection
from training.batches import Outcome
from training.shards import (
    FAIR,
    FINE,
    encode_jpeg,
    encode_png,
    encode_small_track,
    encode_track,
)

FACE_CONTEXT = 2.2  # side of a stored face picture, in box sizes
FACE_LONGEST = 320  # pixels
TRACK_CONTEXT = 1.5  # side of a stored track picture, in box sizes
TRACK_SIZE = 144  # pixels
SAMPLES_PER_PICTURE = round(SAMPLE_RATE / FRAME_RATE)
BOX = ["left", "top", "right", "bottom"]
POINTS = [f"p{i}{axis}" for i in range(5) for axis in "xy"]

Row = dict[str, Any]
Segments = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Source:
    """A file to cut: its path below the data set's folder and the seconds known to be forged."""

    path: str
    segments: Segments = ()


@dataclass(frozen=True)
class Cutter:
    """Cuts the files below `root`. `exact`: PNG and plain arrays, four times as large as JPEG."""

    root: Path
    finder: FaceFinder
    exact: bool

    @classmethod
    def load(cls, root: Path, face_model: str | None, exact: bool) -> Cutter:
        return cls(root, load_finder(face_model), exact)

    def __call__(self, source: Source) -> Outcome:
        """Rows of the tables faces and tracks, and their files; skipped where there is no face.

        Raises AvfakeError where the file cannot be read.
        """
        stem = source.path.replace("/", "-").replace(".", "-")
        with Clip(self.root / source.path) as clip:
            if clip.info.is_image:
                faces, tracks, files = self._picture(clip, stem)
            else:
                faces, tracks, files = self._clip(clip, stem, source.segments)
        for row in (*faces, *tracks):
            row["clip"] = source.path
        return Outcome({"faces": faces, "tracks": tracks}, files, "" if faces else "no_face")

    def _picture(self, clip: Clip, stem: str) -> tuple[list[Row], list[Row], dict[str, bytes]]:
        (picture,) = clip.pictures(1)
        assert picture.colour is not None
        colour = picture.colour
        # Packs of crops are cut tight: with a border the finder sees a face's edge as well.
        edge = max(colour.shape[:2]) // 4
        padded = cv2.copyMakeBorder(colour, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
        found = sorted(self.finder.find(padded), key=lambda d: -box_size(d.box) * d.score)
        if not found or box_size(found[0].box) < 24:
            return [], [], {}
        shift = np.float32(edge)
        points = found[0].points
        face = Detection(
            found[0].box - shift, found[0].score, None if points is None else points - shift
        )
        row, data = self._face(colour, face, stem, 0.0)
        return [row], [], {row["path"]: data}

    def _clip(
        self, clip: Clip, stem: str, segments: Segments
    ) -> tuple[list[Row], list[Row], dict[str, bytes]]:
        sound = clip.sound()
        tracker = Tracker(self.finder)
        faces: list[tuple[int, Row, bytes]] = []
        grey: dict[int, list[Any]] = {}
        for number, stretches in enumerate(_tracked(clip, tracker)):
            for stretch in stretches:
                for box, picture in zip(stretch.boxes, stretch.pictures, strict=True):
                    side = TRACK_CONTEXT * box_size(box) / picture.scale
                    x, y = (box[:2] + box[2:]) / 2 / picture.scale
                    small = cut(picture.luma, (x, y), side, TRACK_SIZE)
                    kept = small if self.exact else encode_jpeg(small, FAIR)
                    grey.setdefault(stretch.track, []).append(kept)
                last = stretch.pictures[-1]
                if not stretch.found[-1] or last.colour is None:
                    continue
                # Every second search: about two pictures a second.
                if number % 2 == 0 or any(start <= last.time <= end for start, end in segments):
                    face = Detection(stretch.boxes[-1] / last.colour_scale, 1.0)
                    name = f"{stem}-{stretch.track}-{number:04d}"
                    faces.append((stretch.track, *self._face(last.colour, face, name, last.time)))
        tracks = tracker.tracks()
        kept_tracks = {track.index for track in tracks}
        faces = [face for face in faces if face[0] in kept_tracks]
        files = {row["path"]: data for _, row, data in faces}
        rows: list[Row] = []
        for track in tracks:
            count = len(track.times)
            if sound is None or count < FRAME_RATE or box_size(track.boxes[0]) < 40:
                continue
            speech = sound.between(track.start, track.start + count / FRAME_RATE)
            speech = speech[: count * SAMPLES_PER_PICTURE]
            name = f"tracks/{stem}-{track.index}.npz"
            encode = encode_track if self.exact else encode_small_track
            files[name] = encode(grey[track.index], speech)
            rows.append({"path": name, "frames": count, "start": round(track.start, 3)})
        return [row for _, row, _ in faces], rows, files

    def _face(
        self, colour: np.ndarray, face: Detection, name: str, time: float
    ) -> tuple[Row, bytes]:
        """The face's surroundings: a row, with box and points in the new picture, and the file."""
        reach = FACE_CONTEXT * box_size(face.box) / 2
        x, y = (face.box[:2] + face.box[2:]) / 2
        left, top = max(0, round(float(x - reach))), max(0, round(float(y - reach)))
        part = colour[top : round(float(y + reach)), left : round(float(x + reach))]
        factor = min(1.0, FACE_LONGEST / max(part.shape[:2]))
        if factor < 1:
            part = cv2.resize(part, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        origin = np.array([left, top], np.float32)
        corners = (face.box.reshape(2, 2) - origin) * factor
        points: list[Any] = [""] * 10
        if face.points is not None:
            points = [round(float(v), 2) for v in ((face.points - origin) * factor).ravel()]
        suffix = ".png" if self.exact else ".jpg"
        row = {
            "path": f"faces/{name}{suffix}",
            "time": round(time, 3),
            "score": round(face.score, 4),
            **dict(zip(BOX, (round(float(v), 2) for v in corners.ravel()), strict=True)),
            **dict(zip(POINTS, points, strict=True)),
        }
        return row, encode_png(part) if self.exact else encode_jpeg(part, FINE)


def _tracked(clip: Clip, tracker: Tracker) -> Iterator[list[Stretch]]:
    for block in blocks(clip.pictures(SEARCH_EVERY)):
        yield tracker.advance(block)
