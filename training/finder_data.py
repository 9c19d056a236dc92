"""Pictures for the face finder, and the teacher that labels them.

`gather` takes stills and frames of clips out of the packs once. `Scenes` composes new pictures of
them for ever: faces of any size anywhere, alone or in a crowd, turned, dark, blurred, compressed,
cut by the edge, before any background. What is a face in such a picture, and how surely, the
teacher says of that very picture: no label is made up, and hard negatives come by themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avfake.faces import FaceFinder
from avfake.media import Clip
from avfake.types import AvfakeError
from training.datasets import packs
from training.manifest import held_out

LONGEST = 640  # pixels: no picture is kept larger than the finder will see it
FRAMES = 12  # a clip
KINDS = ("face", "video", "talking", "clip")
SIZES = {256: 16, 640: 3}
"""Side of the scenes and how many make a batch. Large ones hold the largest faces."""


class Teacher:
    """YuNet's answer at every place of its grids, which are the student's too."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._session: onnxruntime.InferenceSession | None = None

    def answer(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """pictures: uint8 RGB [N, H, W, 3], sides multiples of 32.

        Returns score float32 [N, places] in [0, 1] and places float32 [N, places, 14] in pixels, as
        `FinderNet` orders them.
        """
        if self._session is None:  # made in the process that uses it: sessions do not survive forks
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self._session = onnxruntime.InferenceSession(
                self._model, options, providers=["CPUExecutionProvider"]
            )
        given = np.ascontiguousarray(pictures[..., ::-1].transpose(0, 3, 1, 2), np.float32)
        names = [output.name for output in self._session.get_outputs()]
        grids = dict(zip(names, self._session.run(names, {"input": given}), strict=True))
        scores, places = [], []
        for stride in (8, 16, 32):
            score = np.sqrt(grids[f"cls_{stride}"] * grids[f"obj_{stride}"])[..., 0]
            rows, columns = np.divmod(np.arange(score.shape[1]), pictures.shape[2] // stride)
            origin = np.stack([columns, rows], -1).astype(np.float32) * stride
            box, points = grids[f"bbox_{stride}"], grids[f"kps_{stride}"]
            centre = origin + box[..., :2] * stride
            half = np.exp(box[..., 2:]) * (stride / 2)
            points = np.tile(origin, 5) + points * stride
            scores.append(score)
            places.append(np.concatenate([centre - half, centre + half, points], -1))
        return np.concatenate(scores, 1), np.concatenate(places, 1)


def gather(data: Path, out: Path, finder: FaceFinder) -> pd.DataFrame:
    """Stills and frames of the packs as `out/*.jpg` and `out/pictures.csv`, unless it is there.

    Columns: path, clip, split, dataset (the pack) and group (the person) of the manifest, faces
    (JSON list of [left, top, right, bottom, score], by `finder` on the whole picture).
    """
    table = out / "pictures.csv"
    if not table.exists():
        out.mkdir(parents=True, exist_ok=True)
        rows = []
        listed = packs.prepare(data).table
        listed = listed[listed["kind"].isin(KINDS)]
        for number, row in listed[["path", "split", "dataset", "group"]].iterrows():
            for index, picture in enumerate(_pictures(data / row["path"])):
                path = out / f"{number:05d}-{index:02d}.jpg"
                cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
                faces = [
                    [round(float(value), 3) for value in (*face.box, face.score)]
                    for face in finder.find(picture)
                ]
                told = {"path": path.name, "faces": json.dumps(faces)}
                rows.append(row.rename({"path": "clip"}).to_dict() | told)
        pd.DataFrame(rows).to_csv(table, index=False)
    return pd.read_csv(table, keep_default_na=False)


def _pictures(path: Path) -> list[np.ndarray]:
    """A still, or frames spread over a clip; uint8 RGB, longest side <= LONGEST."""
    try:
        with Clip(path) as clip:
            seen = [p.colour for p in clip.pictures(5) if p.colour is not None]
    except AvfakeError as error:
        print(f"left out: {error}")
        return []
    chosen = sorted({round(i) for i in np.linspace(0, len(seen) - 1, FRAMES)}) if seen else []
    return [shrunk(seen[index], LONGEST) for index in chosen]


def shrunk(picture: np.ndarray, longest: int) -> np.ndarray:
    """The picture with no side longer than `longest`."""
    factor = longest / max(picture.shape[:2])
    if factor >= 1:
        return picture
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def is_held_out(table: pd.DataFrame) -> np.ndarray:
    """Bool [n]: pictures of people kept from training, and all of the dev split."""
    return held_out(table["group"]) | (table["split"] == "dev").to_numpy()


@dataclass(frozen=True)
class Album:
    """Pictures to compose from; `pools`: their rows by pack, each drawn as often as its weight."""

    root: Path
    paths: list[str]
    faces: list[np.ndarray]
    pools: list[np.ndarray]
    weights: np.ndarray

    @classmethod
    def of(cls, root: Path, table: pd.DataFrame) -> Album:
        """Packs weigh as the square root of their size: many small ones are not lost."""
        rows = [np.flatnonzero(table["dataset"] == pack) for pack in table["dataset"].unique()]
        weights = np.sqrt([len(pool) for pool in rows])
        faces = [np.array(json.loads(t), np.float32).reshape(-1, 5)[:, :4] for t in table["faces"]]
        return cls(root, list(table["path"]), faces, rows, weights / weights.sum())

    def draw(self, rng: np.random.Generator) -> int:
        return int(rng.choice(self.pools[rng.choice(len(self.pools), p=self.weights)]))

    def read(self, index: int, factor: float) -> tuple[np.ndarray, float]:
        """(the picture, its scale): shrunk while decoding where it will be used at `factor`."""
        step = 4 if factor < 0.25 else 2 if factor < 0.5 else 1
        flag = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
        path = self.root / self.paths[index]
        picture = cv2.imread(str(path), flag[step])
        if picture is None:
            raise FileNotFoundError(f"cannot read the picture {path}")
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), 1 / step


class Scenes(Dataset):
    """Item i is batch i, always the same: (pictures uint8 [N, S, S, 3], score [N, places], places
    [N, places, 14]), labelled by the teacher.
    """

    def __init__(self, album: Album, teacher: Teacher, seed: int = 0) -> None:
        self._album, self._teacher, self._seed = album, teacher, seed

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng([self._seed, step])
        size = 256 if rng.random() < 0.75 else 640
        pictures = np.stack([scene(self._album, size, rng) for _ in range(SIZES[size])])
        score, places = self._teacher.answer(pictures)
        return torch.from_numpy(pictures), torch.from_numpy(score), torch.from_numpy(places)


def scene(album: Album, size: int, rng: np.random.Generator) -> np.ndarray:
    """A new picture: uint8 RGB [size, size, 3]."""
    make = [_framed, _staged, _piece][rng.choice(3, p=[0.25, 0.65, 0.1])]
    canvas = make(album, size, rng)
    if rng.random() < 0.5:
        crowd = int(rng.integers(8, 20)) if rng.random() < 0.15 else int(rng.integers(1, 6))
        largest = size / (8 if crowd > 6 else 3)
        for _ in range(crowd):
            _paste(canvas, album, largest, rng)
    if rng.random() < 0.15:
        _clutter(canvas, rng)
    return _worn(canvas, rng)


def _framed(album: Album, size: int, rng: np.random.Generator) -> np.ndarray:
    """A whole picture as inference sees it: fitted to the side, black beyond its edge."""
    picture, _ = album.read(album.draw(rng), 1.0)
    factor = min(size / max(picture.shape[:2]), 2.0)
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=way)[:size, :size]
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    canvas = np.zeros((size, size, 3), np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    return canvas


def _piece(album: Album, size: int, rng: np.random.Generator) -> np.ndarray:
    """Some piece of some picture, mostly background."""
    picture, _ = album.read(album.draw(rng), 1.0)
    side = round(min(picture.shape[:2]) * rng.uniform(0.3, 1.0))
    top, left = (int(rng.integers(0, length - side + 1)) for length in picture.shape[:2])
    piece = picture[top : top + side, left : left + side]
    return cv2.resize(piece, (size, size), interpolation=cv2.INTER_LINEAR)


def _staged(album: Album, size: int, rng: np.random.Generator) -> np.ndarray:
    """A picture laid anew, one of its faces at some size, place and angle; what its edge leaves
    free is one colour, its rim drawn out, or a piece of another picture.
    """
    index = album.draw(rng)
    box = _some_face(album.faces[index], rng)
    width = np.exp(rng.uniform(np.log(12), np.log(0.9 * size)))
    factor = min(width / max(box[2] - box[0], 8), 4.0)
    picture, scale = album.read(index, factor)
    # Mostly all of the face is in view; else its middle may lie on the very edge.
    rim = min(factor * (box[3] - box[1]), size) / 2 if rng.random() < 0.8 else 0
    target = rng.uniform(rim, size - rim, 2)
    turn = _laid((box[:2] + box[2:]) / 2 * scale, factor / scale, target, rng)
    beyond = rng.integers(4)
    if beyond < 2:
        canvas = _piece(album, size, rng)
        return cv2.warpAffine(
            picture, turn, (size, size), canvas, borderMode=cv2.BORDER_TRANSPARENT
        )
    mode = cv2.BORDER_CONSTANT if beyond == 2 else cv2.BORDER_REPLICATE
    colour = tuple(int(v) for v in rng.integers(0, 256, 3))
    return cv2.warpAffine(picture, turn, (size, size), borderMode=mode, borderValue=colour)


def _some_face(faces: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of the boxes float [n, 4], or any where there is none."""
    if len(faces):
        return faces[rng.integers(len(faces))]
    corner = rng.uniform(0, 100, 2)
    return np.concatenate([corner, corner + 70])


def _laid(
    centre: np.ndarray, factor: float, target: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The affine map that scales and turns round `centre` and brings it to `target`."""
    angle = np.deg2rad(np.clip(rng.normal(0, 14), -40, 40))
    sides = np.exp(rng.normal(0, 0.05, 2)) * factor
    if rng.random() < 0.5:
        sides[0] = -sides[0]
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([[cosine, -sine], [sine, cosine]]) * sides
    return np.concatenate([turn, (target - turn @ centre)[:, None]], 1)


def _paste(canvas: np.ndarray, album: Album, largest: float, rng: np.random.Generator) -> None:
    """Lay a face with some of its surroundings (or a piece of any picture) into the canvas."""
    index = album.draw(rng)
    nobody = rng.random() < 0.2  # then it is a piece of a picture, mostly without a face
    box = _some_face(album.faces[index][: 0 if nobody else None], rng)
    width = np.exp(rng.uniform(np.log(12), np.log(largest)))
    factor = min(width / max(box[2] - box[0], 8), 4.0)
    picture, scale = album.read(index, factor)
    size = canvas.shape[0]
    turn = _laid((box[:2] + box[2:]) / 2 * scale, factor / scale, rng.uniform(0, size, 2), rng)
    margin = rng.uniform(0.15, 1.0) * (box[2:] - box[:2])
    low = np.maximum((box[:2] - margin) * scale, 0)
    high = np.minimum((box[2:] + margin) * scale, np.array(picture.shape[1::-1]) - 1)
    corners = np.array([low, [high[0], low[1]], high, [low[0], high[1]]]) @ turn[:, :2].T
    corners += turn[:, 2]
    left, top = np.clip(np.floor(corners.min(0)), 0, size - 1).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(0)), 1, size).astype(int)
    if right - left < 4 or bottom - top < 4:
        return
    turn[:, 2] -= (left, top)
    patch = cv2.warpAffine(
        picture, turn, (int(right - left), int(bottom - top)), borderMode=cv2.BORDER_REPLICATE
    )
    mask = np.zeros(patch.shape[:2], np.float32)
    cv2.fillConvexPoly(mask, np.round(corners - (left, top)).astype(np.int32), 1.0)
    if rng.random() < 0.5:
        mask = cv2.GaussianBlur(mask, None, max(0.5, 0.1 * width))
    place = canvas[top:bottom, left:right]
    place[:] = place * (1 - mask[..., None]) + patch * mask[..., None]


def _clutter(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Letters, bars and blobs over the picture, faces included."""
    size = canvas.shape[0]
    for _ in range(rng.integers(1, 5)):
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        x, y = (int(v) for v in rng.integers(0, size, 2))
        kind = rng.integers(3)
        if kind == 0:
            text = "".join(chr(c) for c in rng.integers(48, 123, rng.integers(3, 12)))
            scale = float(rng.uniform(0.4, 2.5))
            font = int(rng.choice([0, 2, 3, 4, 6, 7]))
            cv2.putText(canvas, text, (x - 40, y), font, scale, colour, int(rng.integers(1, 5)))
        elif kind == 1:
            width, height = (int(v) for v in rng.integers(8, size // 4, 2))
            cv2.rectangle(canvas, (x, y), (x + width, y + height), colour, -1)
        else:
            axes = tuple(int(v) for v in rng.integers(6, size // 6, 2))
            cv2.ellipse(canvas, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)


def _worn(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light, colour, blur, noise and compression of all kinds of cameras and codecs."""
    steps: list[tuple[float, Callable[[np.ndarray, np.random.Generator], np.ndarray]]] = [
        (0.7, _lit),
        (0.15, _grey),
        (0.25, _blurred),
        (0.3, _resampled),
        (0.3, _noisy),
        (0.4, _compressed),
    ]
    for odds, step in steps:
        if rng.random() < odds:
            picture = step(picture, rng)
    return picture


def _lit(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gamma, gain and tint in one table a channel; at times far too dark, or from a side."""
    dark = rng.random() < 0.25
    gain = np.exp(rng.uniform(np.log(0.12), np.log(0.5)) if dark else rng.normal(0, 0.25))
    gamma = np.exp(rng.normal(0, 0.3))
    values = np.linspace(0, 1, 256)[:, None] ** gamma * gain * np.exp(rng.normal(0, 0.1, 3))
    table = np.clip((values + rng.normal(0, 0.05)) * 255, 0, 255).astype(np.uint8)
    picture = cv2.LUT(picture, table.reshape(256, 1, 3))
    if rng.random() < 0.2:
        ramp = np.linspace(1, rng.uniform(0.2, 0.8), picture.shape[1], dtype=np.float32)
        ramp = ramp[::-1] if rng.random() < 0.5 else ramp
        picture = (picture * ramp[None, :, None]).astype(np.uint8)
    return picture


def _grey(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _blurred(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        return cv2.GaussianBlur(picture, None, rng.uniform(0.5, 2.5))
    length = int(rng.integers(3, 14))  # motion: a line across the kernel
    kernel = np.zeros((length, length), np.float32)
    middle, angle = (length - 1) / 2, rng.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * middle
    ends = [tuple(round(float(v)) for v in middle + sign * reach) for sign in (-1, 1)]
    cv2.line(kernel, *ends, 1.0)
    return cv2.filter2D(picture, -1, kernel / kernel.sum())


def _resampled(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    factor = rng.uniform(0.3, 0.9)
    small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    way = rng.choice([cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC])
    return cv2.resize(small, picture.shape[1::-1], interpolation=int(way))


def _noisy(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = np.empty(picture.shape, np.int16)
    cv2.setRNGSeed(int(rng.integers(2**31)))  # OpenCV's generator is ten times as fast
    cv2.randn(noise, 0, rng.uniform(1, 14))
    return cv2.add(picture, noise, dtype=cv2.CV_8U)


def _compressed(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(12, 95))]
    return cv2.imdecode(cv2.imencode(".jpg", picture, quality)[1], cv2.IMREAD_COLOR)
