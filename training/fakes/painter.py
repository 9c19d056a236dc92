"""Faces painted by a decoder: what lip-sync, reenactment and face-swap nets leave behind.

Such nets draw a face (or its lower half) through a bottleneck and an upsampling decoder; detectors
that have only seen blended photographs miss them. Pictures that went through a small autoencoder
of our own carry the same kind of trace: softened texture and the decoder's grid, in otherwise
unchanged content (Rajan et al., "Aligned datasets improve detection of latent diffusion-generated
images", 2024, use an autoencoder's reconstructions so).

The autoencoders are trained by `training.painters` and serve as a training signal alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from avfake.crops import box_size
from training.checkpoints import load_state

FACE_PIXELS = (70.0, 180.0)
"""Generators paint faces of this many pixels a side, whatever the video's size."""
LEAST_CELLS = 4
"""Cells of the bottleneck a side, at least."""


class Autoencoder(nn.Module):
    """Convolutional: `levels` halvings to a bottleneck of `latent` channels, and back.

    `upsampling`: "nearest", "transposed" or "shuffle": each leaves another grid. Pictures are
    float32 [N, 3, H, W] in [-1, 1], their sides multiples of 2 ** levels.
    """

    def __init__(
        self, upsampling: str = "nearest", width: int = 16, latent: int = 12, levels: int = 3
    ) -> None:
        super().__init__()
        self.cell = 2**levels
        widths = [width * min(2**level, 4) for level in range(levels + 1)]
        down: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
        for inside, outside in pairwise(widths):
            down += [nn.Conv2d(inside, outside, 4, stride=2, padding=1), _Residual(outside)]
        self.encoder = nn.Sequential(*down, nn.Conv2d(widths[-1], latent, 1))
        up: list[nn.Module] = [nn.Conv2d(latent, widths[-1], 3, padding=1), _Residual(widths[-1])]
        for outside, inside in reversed(list(pairwise(widths))):
            up += [_upsampling(upsampling, inside, outside), _Residual(outside)]
        self.decoder = nn.Sequential(*up, nn.Conv2d(widths[0], 3, 3, padding=1))

    def forward(self, pictures: Tensor) -> Tensor:
        codes = self.encoder(pictures)
        if self.training:  # a bottleneck that bears disturbance can be disturbed later
            codes = codes + 0.05 * torch.randn_like(codes)
        return self.decoder(codes)


class Painters:
    """Trained autoencoders that repaint faces, one drawn at random each time."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError where `folder` holds none."""
        paths = sorted(folder.glob("*/best.safetensors"))
        if not paths:
            raise FileNotFoundError(
                f"no painters in {folder}: make them with `python -m training.painters`"
            )
        self.nets = [_load(path) for path in paths]

    @torch.inference_mode()
    def repaint(
        self, picture: np.ndarray, box: Sequence[float] | np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The picture uint8 [H, W, 3] RGB, painted anew as a generator of faces would."""
        net = self.nets[rng.integers(len(self.nets))]
        height, width = picture.shape[:2]
        face = np.exp(rng.uniform(*np.log(FACE_PIXELS)))
        scale = float(np.clip(face / box_size(np.asarray(box)), 0.4, 1.3))
        # Never more than the picture's own pixels needs: twice the work for no more detail.
        size = [
            max(LEAST_CELLS, round(side * scale / net.cell)) * net.cell for side in (width, height)
        ]
        small = cv2.resize(
            picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        )
        pictures = torch.from_numpy(small)[None].permute(0, 3, 1, 2).float() / 127.5 - 1
        codes = net.encoder(pictures)
        if rng.random() < 0.3:
            noise = torch.from_numpy(rng.standard_normal(tuple(codes.shape), np.float32))
            codes = codes + rng.uniform(0, 0.3) * codes.std() * noise
        painted = ((net.decoder(codes)[0].permute(1, 2, 0) + 1) * 127.5).numpy()
        if rng.random() < 0.85:
            # Good generators get broad colour right; only texture and details give them away.
            painted += cv2.GaussianBlur(small - painted, (0, 0), float(rng.uniform(2, 8)))
        painted = np.clip(np.rint(painted), 0, 255).astype(np.uint8)
        way = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(2)]
        return cv2.resize(painted, (width, height), interpolation=way)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.second(functional.silu(self.first(functional.silu(features))))


def _upsampling(kind: str, inside: int, outside: int) -> nn.Module:
    if kind == "nearest":
        return nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(inside, outside, 3, padding=1)
        )
    if kind == "transposed":
        return nn.ConvTranspose2d(inside, outside, 4, stride=2, padding=1)
    if kind == "shuffle":
        return nn.Sequential(nn.Conv2d(inside, 4 * outside, 3, padding=1), nn.PixelShuffle(2))
    raise ValueError(f"unknown upsampling {kind!r}")


def _load(path: Path) -> Autoencoder:
    state, config = load_state(path)
    net = Autoencoder(**config).eval().to(memory_format=torch.channels_last)
    net.load_state_dict(state)
    return net
