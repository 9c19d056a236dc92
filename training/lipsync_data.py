"""Prepared talking-face tracks to batches of mouth clips and sound, for the lip-sync recipe.

A prepared folder holds `tracks.csv` and, for each of its rows, an npz with `faces` uint8
[T, 144, 144] grey at 25 pictures/s (1.5 box sizes round the face) and `sound` float32 [T * 640].
The mouth clip is cut out of the face as inference would cut it, a little off as trackers are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avfake.crops import MOUTH_DROP, MOUTH_SIDE
from avfake.models.lipsync import MOUTH_SIDE as MOUTH_PIXELS
from avfake.models.lipsync import SAMPLES_PER_FRAME
from training.augment_picture import blur, rescale, x264
from training.augment_sound import Journey
from training.cut import TRACK_CONTEXT
from training.manifest import held_out
from training.prepare import TRACK_COLUMNS
from training.shards import read_track

Generator = np.random.Generator

FILMED_FOR_FACES = "video/"
"""How the sources begin whose sound need not be the voice of the face; left out."""
LATEST = 15
"""Frames by which a training clip's sound is late or early at most."""


@dataclass(frozen=True)
class Tracks:
    """Rows of a prepared folder's `tracks.csv`, read one track at a time."""

    root: Path
    table: pd.DataFrame

    @classmethod
    def load(cls, root: Path) -> Tracks:
        table = pd.read_csv(root / "tracks.csv", dtype={"group": str, "clip": str, "source": str})
        missing = set(TRACK_COLUMNS) - set(table.columns)
        if missing:
            raise ValueError(f"{root / 'tracks.csv'} lacks the columns {sorted(missing)}")
        keep = ~table["source"].str.startswith(FILMED_FOR_FACES)
        return cls(root, table[keep].reset_index(drop=True))

    def __len__(self) -> int:
        return len(self.table)

    def where(self, keep: np.ndarray) -> Tracks:
        """The rows for which bool `keep` [n] is true."""
        return Tracks(self.root, self.table[np.asarray(keep, bool)].reset_index(drop=True))

    def split(self) -> tuple[Tracks, Tracks, Tracks]:
        """(train, held-out people, dev): the same people as every branch holds out."""
        split = self.table["split"]
        # Fakes may be out of step with their sound, or fit it by design: neither is a teacher.
        train = ((split == "train") & (self.table["label"] == 0)).to_numpy()
        aside = held_out(self.table["group"])
        others = split.isin(["dev", "val"]).to_numpy()
        return self.where(train & ~aside), self.where(train & aside), self.where(others)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(faces uint8 [T, S, S], sound float32 [T * 640]) of a row."""
        return read_track(self.root, self.table["path"][index])


@dataclass(frozen=True)
class Framing:
    """How a mouth clip lies in the face pictures: shifts in box sizes, rotation in degrees."""

    scale: float = 1.0
    right: float = 0.0
    down: float = 0.0
    turn: float = 0.0
    mirror: bool = False
    tremble: float = 0.0

    @classmethod
    def draw(cls, rng: Generator) -> Framing:
        """A tracker's box, a little off and not quite steady."""
        return cls(
            scale=float(np.exp(rng.uniform(-0.12, 0.12))),
            right=float(rng.uniform(-0.06, 0.06)),
            down=float(rng.uniform(-0.06, 0.06)),
            turn=float(rng.normal(0, 5)),
            mirror=bool(rng.random() < 0.5),
            tremble=float(rng.uniform(0, 0.01)) if rng.random() < 0.5 else 0.0,
        )


def mouth_clip(
    faces: np.ndarray, framing: Framing | None = None, rng: Generator | None = None
) -> np.ndarray:
    """Mouths uint8 [T, 112, 112] out of faces uint8 [T, S, S]; `rng` is for a framing's tremble."""
    framing = framing or Framing()
    box = faces.shape[1] / TRACK_CONTEXT  # the box size in pixels of the face picture
    side = MOUTH_SIDE * box * framing.scale
    wander = np.zeros((len(faces), 3))
    if framing.tremble and rng is not None:
        wander = rng.normal(0, framing.tremble, (len(faces), 3))
    mouths = np.empty((len(faces), MOUTH_PIXELS, MOUTH_PIXELS), np.uint8)
    for index, (face, (right, down, grow)) in enumerate(zip(faces, wander, strict=True)):
        x = faces.shape[1] / 2 + (framing.right + right) * box
        y = faces.shape[1] / 2 + (MOUTH_DROP + framing.down + down) * box
        # Pixel centres lie at whole numbers for OpenCV, the geometry here counts from corners.
        matrix = cv2.getRotationMatrix2D(
            (x - 0.5, y - 0.5), framing.turn, MOUTH_PIXELS / side * (1 + grow)
        )
        matrix[:, 2] += (MOUTH_PIXELS - 1) / 2 - np.array([x - 0.5, y - 0.5])
        mouths[index] = cv2.warpAffine(
            face, matrix, (MOUTH_PIXELS, MOUTH_PIXELS), borderMode=cv2.BORDER_REPLICATE
        )
    return np.ascontiguousarray(mouths[:, :, ::-1]) if framing.mirror else mouths


def worn_mouths(mouths: np.ndarray, rng: Generator) -> np.ndarray:
    """The clip after light, lens, scaling, sensor and codec, the same for all its pictures."""
    light, lens, scale, sensor, codec = rng.random(5)
    inner = rng.spawn(5)
    if light < 0.8:
        levels = np.arange(256) / 255
        table = (levels ** np.exp(inner[0].normal(0, 0.3)) - 0.5) * np.exp(inner[0].normal(0, 0.2))
        table = 255 * (table + 0.5 + inner[0].normal(0, 0.06))
        mouths = np.clip(np.rint(table), 0, 255).astype(np.uint8)[mouths]
    seed = int(inner[1].integers(2**31))
    if lens < 0.2:
        mouths = np.stack([blur(mouth, np.random.default_rng(seed)) for mouth in mouths])
    if scale < 0.25:
        mouths = np.stack([rescale(mouth, np.random.default_rng(seed)) for mouth in mouths])
    if sensor < 0.3:
        grains = inner[3].standard_normal(mouths.shape, np.float32) * inner[3].uniform(1, 8)
        mouths = np.clip(np.rint(mouths + grains), 0, 255).astype(np.uint8)
    return through_h264(mouths, int(inner[4].integers(20, 36))) if codec < 0.4 else mouths


def through_h264(pictures: np.ndarray, crf: int) -> np.ndarray:
    """Grey clip uint8 [T, H, W] (even sides) through x264 at `crf` (0 to 51) and back."""
    _, height, width = pictures.shape
    colourless = np.full((height // 2, width), 128, np.uint8)
    shown = x264([np.concatenate([picture, colourless]) for picture in pictures], crf)
    return np.stack([planes[:height] for planes in shown])


def worn_sound(sound: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """The sound after other voices (`other`, float32, any length > 0), room, level and codec."""
    talk, journey, ratio = rng.random(), Journey.draw(rng), rng.uniform(3, 20)
    if talk < 0.3:
        other = np.resize(other, len(sound))
        power = np.mean(sound**2) / (np.mean(other**2) + 1e-12)
        sound = sound + other * np.sqrt(power) * 10 ** (-ratio / 20)
    if not np.any(sound):
        return sound
    # No silence put first: sound and picture must stay together.
    return replace(journey, lead=0.0)(sound.astype(np.float32))


def at_speed(
    faces: np.ndarray, sound: np.ndarray, factor: float, frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first `frames` pictures and their sound, played `factor` times as fast."""
    times = np.minimum(np.rint(np.arange(frames) * factor).astype(int), len(faces) - 1)
    places = np.arange(frames * SAMPLES_PER_FRAME) * factor
    return faces[times], np.interp(places, np.arange(len(sound)), sound).astype(np.float32)


class ClipBatches(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Batch i of every run: `clips` stretches of `frames` pictures, each of another track.

    Item: mouths uint8 [clips, frames, 112, 112]; sound float32 [clips, frames * 640]; how many
    frames of both count, int64 [clips] (a short track is repeated to fill the rest); and by how
    many frames the sound is late, int64 [clips]: mouth t goes with sound t + late. Cut alike, the
    two would share their ends, which towers with zero padding notice and align by.
    """

    def __init__(self, tracks: Tracks, clips: int, frames: int, steps: int, seed: int = 0) -> None:
        self.tracks, self.clips, self.frames = tracks, clips, frames
        self.steps, self.seed = steps, seed
        # Long tracks have more to show, but not in proportion: it is the same person.
        odds = np.sqrt(np.minimum(tracks.table["frames"].to_numpy(float), 10 * frames))
        self.odds = odds / odds.sum()

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, step])
        chosen = rng.choice(len(self.tracks), self.clips, replace=False, p=self.odds)
        clips = [self._clip(int(index), rng) for index in chosen]
        mouths = np.zeros((self.clips, self.frames, MOUTH_PIXELS, MOUTH_PIXELS), np.uint8)
        sounds = np.zeros((self.clips, self.frames * SAMPLES_PER_FRAME), np.float32)
        for index, (faces, sound, _) in enumerate(clips):
            worn = worn_mouths(mouth_clip(faces, Framing.draw(rng), rng), rng)
            mouths[index] = np.resize(worn, mouths.shape[1:])
            heard = worn_sound(sound, clips[index - 1][1], rng)
            sounds[index] = np.resize(heard, sounds.shape[1:])
        lengths = torch.tensor([len(faces) for faces, _, _ in clips])
        late = torch.tensor([late for _, _, late in clips])
        return torch.from_numpy(mouths), torch.from_numpy(sounds), lengths, late

    def _clip(self, index: int, rng: Generator) -> tuple[np.ndarray, np.ndarray, int]:
        faces, sound = self.tracks.read(index)
        factor = rng.uniform(0.9, 1.1) if rng.random() < 0.5 else 1.0
        there = int(len(faces) / factor)
        reach = min(LATEST, there // 3)
        late = int(rng.integers(-reach, reach + 1))
        count = min(self.frames, there - abs(late))
        first = int(rng.integers(len(faces) - int((count + abs(late)) * factor) + 1))
        faces, sound = at_speed(
            faces[first:], sound[first * SAMPLES_PER_FRAME :], factor, count + abs(late)
        )
        seen, heard = max(0, late), max(0, -late)
        sound = sound[heard * SAMPLES_PER_FRAME : (heard + count) * SAMPLES_PER_FRAME]
        return faces[seen : seen + count], sound, late
