"""Prepared faces to batches of real and pseudo-fake crops, for the visual recipe.

A prepared folder holds `faces.csv` and the context pictures it names: a face with its
surroundings, about 2.2 face boxes wide. Fakes are made in the context picture; then the crop is
cut, with the box a little off as a tracker's is; then real and fake get the same augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avfake.crops import box_size, face_crop
from training.augment_picture import augment
from training.cut import BOX, POINTS
from training.fakes.painter import Painters
from training.fakes.visual import Face, distort, face_frame, self_blend, swap
from training.shards import read_picture

Generator = np.random.Generator

KINDS = {
    "self-face": 0.24,
    "self-inner": 0.12,
    "self-box": 0.08,
    "self-lower": 0.14,
    "self-mouth": 0.08,
    "self-eyes": 0.04,
    "swap-plain": 0.18,
    "swap-poisson": 0.12,
}
"""Kinds of pseudo-fake and their odds."""
SWAPPED = ("face", "inner", "box")
"""Regions that swaps exchange."""
VIDEO_SHARE = 0.6
"""Odds of drawing a frame of video rather than a photograph: what is judged later is video."""
PORTRAITS = "faces/"
"""How the sources of photographs begin."""
SMALLEST, DULLEST, FAINTEST = 48, 20.0, 0.8
"""Training faces need this many pixels a side, this much detail (see `detail`), and a finder this
sure of them: drawings, masks and faces half out of the picture mostly score lower."""
TIGHT = 0.3
"""Odds that a face is cut as close as published crops are."""
PAINTED, REPAINTED = 0.2, 0.05
"""Odds that the face laid into a forgery was painted by a decoder, and that the whole picture was
(see `training.fakes.painter`)."""
TRUE_FAKES = 0.5
"""Share of the pairs that hold a true fake, where the data set has some to train on."""
WORN = 0.7
"""Odds, in the end, that a pair goes through codecs, blur, noise and another framing."""

COLUMNS = ["path", "split", "label", "group", "source", "clip", "score", *BOX, *POINTS]


@dataclass(frozen=True)
class Faces:
    """Rows of a prepared folder's `faces.csv` (columns COLUMNS), read one picture at a time."""

    root: Path
    table: pd.DataFrame

    @classmethod
    def load(cls, root: Path) -> Faces:
        table = pd.read_csv(root / "faces.csv", dtype={"group": str, "clip": str, "source": str})
        missing = set(COLUMNS) - set(table.columns)
        if missing:
            raise ValueError(f"{root / 'faces.csv'} lacks the columns {sorted(missing)}")
        return cls(root, table)

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def places(self) -> np.ndarray:
        """Float [n, 14]: every row's box and five points (NaN where there are none)."""
        return self.table[BOX + POINTS].to_numpy(np.float64)

    def where(self, keep: np.ndarray) -> Faces:
        """The rows for which bool `keep` [n] is true."""
        return Faces(self.root, self.table[np.asarray(keep)].reset_index(drop=True))

    def read(self, index: int, tallest: float = float("inf")) -> Face:
        """Picture, box and points of a row; shrunk, if need be, to a box `tallest` pixels high.

        Raises FileNotFoundError when the picture is missing or no picture.
        """
        picture = read_picture(self.root, self.table["path"].iat[index])
        box, points = self.places[index, :4], self.places[index, 4:].reshape(5, 2)
        shrink = tallest / (box[3] - box[1])
        if shrink < 1:
            height, width = picture.shape[:2]
            size = (max(8, round(width * shrink)), max(8, round(height * shrink)))
            scale = np.array([size[0] / width, size[1] / height])
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            box, points = box * np.tile(scale, 2), points * scale
        return Face(picture, box, None if np.isnan(points).any() else points)


def detail(face: Face) -> float:
    """Sharpness: the variance of the Laplacian (Pech-Pacheco et al., 2000) of the 96-pixel crop."""
    crop = face_crop(face.picture, face.box, 96)
    return float(cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


def usable(faces: Faces) -> np.ndarray:
    """Bool [n]: faces sure, large and sharp enough that a forgery in them can be told."""
    keep = np.array([box_size(place[:4]) >= SMALLEST for place in faces.places], bool)
    keep &= faces.table["score"].to_numpy() >= FAINTEST
    for index in np.flatnonzero(keep).tolist():
        keep[index] = detail(faces.read(index)) >= DULLEST
    return keep


def training_faces(faces: Faces) -> Faces:
    """The real faces of the training split that are good enough to forge."""
    real = faces.where((faces.table["split"] == "train") & (faces.table["label"] == 0))
    return real.where(usable(real))


class Studio:
    """Draws faces from a pack of real ones and makes a pseudo-fake of each."""

    def __init__(
        self,
        faces: Faces,
        size: int,
        painters: Painters | None = None,
        fakes: Faces | None = None,
    ) -> None:
        """`faces` are real. `painters` paint some of the forgeries; `fakes` are true ones, each
        shown beside a real face of its own group where there is one.
        """
        self.faces, self.size, self.painters, self.fakes = faces, size, painters, fakes
        table = faces.table
        self.groups = table["group"].to_numpy()
        portrait = table["source"].str.startswith(PORTRAITS).to_numpy()
        # Rows grouped by people: someone filmed in many frames is drawn no more often for it.
        self.pools = [
            [
                rows.to_numpy()
                for _, rows in table.index[kind].to_series().groupby(self.groups[kind])
            ]
            for kind in (portrait, ~portrait)
        ]
        self.poses = np.stack([_pose(place) for place in faces.places])
        first = table.index.to_series().groupby(table["clip"]).transform("min")
        self.first_frame = first.to_numpy()
        self.fake_pools: list[np.ndarray] = []
        if fakes is not None and len(fakes):
            rows = fakes.table.index.to_series().groupby(fakes.table["clip"].to_numpy())
            self.fake_pools = [clip.to_numpy() for _, clip in rows]

    def draw(self, rng: Generator) -> int:
        """A row: a frame of video with the odds VIDEO_SHARE, then one of its people, then one."""
        portraits, videos = self.pools
        pool = videos if videos and (not portraits or rng.random() < VIDEO_SHARE) else portraits
        return int(rng.choice(pool[rng.integers(len(pool))]))

    def donor(self, index: int, rng: Generator) -> int:
        """A row of somebody else, the one of a few whose head is turned most alike. All frames of
        a clip that are given generators of one state get the same donor.
        """
        index = self.first_frame[index]
        rows = np.array([self.draw(rng) for _ in range(8)])
        distance = np.abs(self.poses[rows] - self.poses[index]).sum(1)
        distance[self.groups[rows] == self.groups[index]] += 1e3
        return int(rows[distance.argmin()])

    def pair(
        self, index: int, rng: Generator, strength: float, kind: str, augmented: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """(real, fake) crops of row `index`, uint8 [size, size, 3], alike but for the forgery."""
        tallest = rng.uniform(80, 170)
        face = self.faces.read(index, tallest)
        if augmented and rng.random() < 0.4:
            # The original may itself be soft, sharpened or recoloured: only a face unlike its
            # surroundings is a fake.
            face = face._replace(picture=distort(face.picture, rng, 0.7))
        if augmented and rng.random() < TIGHT:
            face = _tighten(face, rng)
        fake = self._forge(index, face, rng, strength, kind, tallest)
        box = jitter(face.box, rng)
        return self._crops([(face.picture, box), (fake, box)], rng, augmented)

    def true_pair(self, rng: Generator, augmented: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """(real, fake) crops as `pair`, of a true fake and of a real face of its group."""
        assert self.fakes is not None
        rows = self.fake_pools[rng.integers(len(self.fake_pools))]
        fake = int(rng.choice(rows))
        own = np.flatnonzero(self.groups == self.fakes.table["group"].iat[fake])
        real = int(rng.choice(own)) if len(own) else self.draw(rng)
        faces = [self.faces.read(real), self.fakes.read(fake)]
        places = [(face.picture, jitter(face.box, rng)) for face in faces]
        return self._crops(places, rng, augmented)

    def _crops(
        self, places: list[tuple[np.ndarray, np.ndarray]], rng: Generator, augmented: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cut (picture, box) real and fake, then treat both alike."""
        if not augmented:
            way = rng.choice([-1, 1])  # mirrored or not, both alike
            real, fake = (face_crop(*place, self.size)[:, ::way] for place in places)
            return real, fake
        # Codecs see the video's own pixels, not the crop's.
        side = round(self.size * rng.uniform(0.75, 1.4)) if rng.random() < 0.5 else self.size
        seed = int(rng.integers(2**63))
        real, fake = (
            augment(face_crop(*place, side), np.random.default_rng(seed)) for place in places
        )
        return self._sized(real), self._sized(fake)

    def _forge(
        self,
        index: int,
        face: Face,
        rng: Generator,
        strength: float,
        kind: str,
        tallest: float,
    ) -> np.ndarray:
        chance = rng.random()
        painted = self.painters is not None and chance < PAINTED
        if self.painters is not None and chance > 1 - REPAINTED:
            return self.painters.repaint(face.picture, face.box, rng)
        family, name = kind.split("-")
        if family == "self":
            source = self._painted(face, rng) if painted else None
            return self_blend(*face, rng, name, strength, source)
        donor = self.faces.read(self.donor(index, rng), tallest)
        if painted:
            donor = donor._replace(picture=self._painted(donor, rng))
        region = SWAPPED[rng.integers(len(SWAPPED))]
        return swap(*face, rng, donor, region, strength, poisson=name == "poisson")

    def _painted(self, face: Face, rng: Generator) -> np.ndarray:
        assert self.painters is not None
        return self.painters.repaint(face.picture, face.box, rng)

    def _sized(self, crop: np.ndarray) -> np.ndarray:
        if len(crop) == self.size:
            return crop
        way = cv2.INTER_AREA if len(crop) > self.size else cv2.INTER_LINEAR
        return cv2.resize(crop, (self.size, self.size), interpolation=way)


class PairBatches(Dataset):
    """Item i is the batch of step i: faces uint8 [2 P, size, size, 3], labels float32 [2 P].

    It begins with strong forgeries as they were made. Over the first sixth of `steps` come
    weaker ones, over the first quarter more and more that went through codecs, blur and noise: a
    net that starts on subtle or worn ones learns nothing for long.
    """

    def __init__(self, studio: Studio, pairs: int, steps: int, seed: int = 0) -> None:
        self.studio, self.pairs, self.steps, self.seed = studio, pairs, steps, seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, step])
        ease = max(0.0, 1 - 6 * step / self.steps)
        weakest, strongest = 0.4 + 0.6 * ease, 1.0 + 0.8 * ease
        worn = WORN * min(1.0, 4 * step / self.steps)
        pairs = [
            self._pair(rng, rng.uniform(weakest, strongest), str(kind), rng.random() < worn)
            for kind in rng.choice(list(KINDS), size=self.pairs, p=list(KINDS.values()))
        ]
        real, fake = (np.stack(crops) for crops in zip(*pairs, strict=True))
        labels = torch.cat([torch.zeros(self.pairs), torch.ones(self.pairs)])
        return torch.from_numpy(np.concatenate([real, fake])), labels

    def _pair(
        self, rng: Generator, strength: float, kind: str, augmented: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.studio.fake_pools and rng.random() < TRUE_FAKES:
            return self.studio.true_pair(rng, augmented)
        return self.studio.pair(self.studio.draw(rng), rng, strength, kind, augmented)


def jitter(box: np.ndarray, rng: Generator) -> np.ndarray:
    """The box scaled by 0.8 to 1.15 and moved by up to 8%, as other finders and trackers do."""
    centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    centre = centre + rng.uniform(-0.08, 0.08, 2) * box_size(box)
    half = np.array([box[2] - box[0], box[3] - box[1]]) / 2 * rng.uniform(0.8, 1.15)
    return np.concatenate([centre - half, centre + half])


def _tighten(face: Face, rng: Generator) -> Face:
    """The picture cut close round the face, as published crops are."""
    height, width = face.picture.shape[:2]
    margin = rng.uniform(0.0, 0.15) * box_size(face.box)
    left, top = np.maximum(0, np.floor(face.box[:2] - margin)).astype(int)
    right, bottom = np.minimum([width, height], np.ceil(face.box[2:] + margin)).astype(int)
    points = None if face.points is None else face.points - (left, top)
    picture = np.ascontiguousarray(face.picture[top:bottom, left:right])
    return Face(picture, face.box - np.tile([left, top], 2), points)


def _pose(place: np.ndarray) -> np.ndarray:
    """The five points in face coordinates, [10]; zeros where there are none."""
    box, points = place[:4], place[4:].reshape(5, 2)
    if np.isnan(points).any():
        return np.zeros(10)
    frame = cv2.invertAffineTransform(face_frame(box, points))
    return (points @ frame[:, :2].T + frame[:, 2]).ravel()
