"""Train the small autoencoders that paint pseudo-fake faces (see `training.fakes.painter`).

    python -m training.painters --prepared prepared --out runs/painters

A few minutes each on one core; they need not be good, only to leave what decoders leave.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from training.fakes.painter import Autoencoder
from training.loop import Schedule, fit
from training.manifest import held_out
from training.pretrained import IMAGENET, LITE0, pretrain
from training.runtime import Runtime
from training.visual_data import Faces, training_faces

PAINTERS: dict[str, dict[str, Any]] = {
    "nearest": {"upsampling": "nearest", "width": 16, "latent": 12, "levels": 3},
    "transposed": {"upsampling": "transposed", "width": 16, "latent": 12, "levels": 2},
    "shuffle": {"upsampling": "shuffle", "width": 16, "latent": 16, "levels": 3},
}
"""Name to architecture."""
SCHEDULE = Schedule(steps=500, lr=1.5e-3, warmup=50, weight_decay=0.0, ema=0.98, evaluate_every=250)
PATCH = 64
PATCHES = 12
PERCEPTION = 0.3
"""Weight of the difference in an ImageNet net's features beside that of pixels."""


class Patches(Dataset):
    """Item i: float32 [PATCHES, 3, PATCH, PATCH] in [-1, 1], mostly of faces' inner parts."""

    def __init__(self, faces: Faces, steps: int, seed: int = 0) -> None:
        self.faces, self.steps, self.seed = faces, steps, seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Tensor:
        rng = np.random.default_rng([self.seed, step])
        patches = np.stack([self._patch(rng) for _ in range(PATCHES)])
        return torch.from_numpy(patches).permute(0, 3, 1, 2).float() / 127.5 - 1

    def _patch(self, rng: np.random.Generator) -> np.ndarray:
        face = self.faces.read(int(rng.integers(len(self.faces))), rng.uniform(90, 200))
        picture = face.picture
        short = [max(0, PATCH - side) for side in picture.shape[:2]]
        picture = cv2.copyMakeBorder(picture, 0, short[0], 0, short[1], cv2.BORDER_REFLECT)
        room = np.array(picture.shape[1::-1]) - PATCH
        size = face.box[2:] - face.box[:2]
        corner = (face.box[:2] + face.box[2:] - PATCH) / 2 + rng.normal(0, 0.25, 2) * size
        if rng.random() < 0.3:
            corner = rng.uniform(0, room + 1)
        left, top = np.clip(corner, 0, room).astype(int)
        return picture[top : top + PATCH, left : left + PATCH]


class Perception(nn.Module):
    """How far two pictures are apart: in pixels, and in the features of an ImageNet net."""

    def __init__(self) -> None:
        super().__init__()
        net = timm.create_model(LITE0, pretrained=False, num_classes=0)
        pretrain(net, LITE0, IMAGENET)
        self.stem = nn.Sequential(net.conv_stem, net.bn1)
        self.blocks = net.blocks[:3]
        self.eval().requires_grad_(False)

    def features(self, pictures: Tensor) -> list[Tensor]:
        found = [self.stem(pictures)]
        for block in self.blocks:
            found.append(block(found[-1]))
        return found

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        pairs = zip(self.features(made), self.features(wanted), strict=True)
        unlike = [(a - b).abs().mean() / b.abs().mean() for a, b in pairs]
        return functional.l1_loss(made, wanted) + PERCEPTION * sum(unlike) / len(unlike)


def train(prepared: Path, out: Path, schedule: Schedule, runtime: Runtime) -> dict[str, float]:
    """Train every painter into its folder under `out`; each one's loss on people held out."""
    faces = training_faces(Faces.load(prepared))
    aside = held_out(faces.table["group"])
    watched = [Patches(faces.where(aside), 8, seed=1)[index] for index in range(8)]
    figures = {}
    for name, config in PAINTERS.items():
        torch.manual_seed(0)
        net, apart = Autoencoder(**config), Perception().to(runtime.device)

        def loss(model: nn.Module, pictures: Tensor, apart: Perception = apart) -> Tensor:
            return apart(model(pictures).float(), pictures)

        def evaluate(model: nn.Module, apart: Perception = apart) -> dict[str, float]:
            with torch.inference_mode():
                pictures = [batch.to(runtime.device) for batch in watched]
                return {"loss": sum(float(apart(model(p), p)) for p in pictures) / len(pictures)}

        figures[name] = fit(
            net.to(memory_format=torch.channels_last),
            Patches(faces.where(~aside), schedule.batches(runtime.world)),
            loss,
            evaluate,
            schedule,
            out / name,
            config,
            runtime,
        )["loss"]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.painters", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--prepared", type=Path, required=True, help="folder with faces.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, or to resume")
    Runtime.add_arguments(parser)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with Runtime.from_options(options).started() as runtime:
        print(train(options.prepared, options.out, SCHEDULE, runtime))


if __name__ == "__main__":
    main()
