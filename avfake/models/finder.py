"""The face finder: a small fully convolutional net that answers at every place of three grids.

Anchor-free like its teacher YuNet (Wu, Peng and Yu, "YuNet: a tiny millisecond-level face
detector", Machine Intelligence Research 2023) and on the same grids, so that the teacher's answer
at a place is the student's target there; but full resolution is left at once, because that is where
a processor's time goes, and kernels are wider on the coarser grids.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRIDES = (8, 16, 32)
"""Pixels between the places of each grid. A picture's sides must be multiples of the last."""


def places(height: int, width: int) -> int:
    """How many places a picture of these sides has, over all grids."""
    return sum((height // stride) * (width // stride) for stride in STRIDES)


class FinderNet(nn.Module):
    """Where faces are: a logit, a box and 5 points for every place.

    channels: at stride 2, at stride 4, and on all three grids, which are summed.
    depth: blocks on each grid. kernel: of the blocks on the two coarser ones.
    """

    INPUTS = ("pictures",)
    OUTPUTS = ("logit", "places")

    def __init__(
        self,
        channels: tuple[int, int, int] = (16, 32, 64),
        depth: tuple[int, int, int] = (2, 3, 3),
        kernel: int = 5,
    ) -> None:
        super().__init__()
        half, quarter, wide = channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            _halving(half, quarter, 3),
            _block(quarter, 3),
        )
        self.fine = _stage(quarter, wide, depth[0], 3)
        self.middle = _stage(wide, wide, depth[1], kernel)
        self.coarse = _stage(wide, wide, depth[2], kernel)
        self.to_middle, self.to_fine = _block(wide, 3), _block(wide, 3)
        self.heads = nn.ModuleList(
            nn.Sequential(_block(wide, 3), nn.Conv2d(wide, 15, kernel_size=1)) for _ in STRIDES
        )
        for head in self.heads:
            nn.init.normal_(head[1].weight, std=0.01)
            nn.init.zeros_(head[1].bias)
            head[1].bias.data[0] = -4.6  # faces are rare: one place in a hundred

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """pictures: uint8 [N, H, W, 3] RGB, H and W multiples of 32.

        Returns logit float32 [N, places] (face > 0) and places float32 [N, places, 14] in the
        picture's pixels: left, top, right, bottom, then x and y of right eye, left eye, nose, right
        and left mouth corner (as the person has them). Places run along rows, finest grid first.
        """
        # No scaling: the batch normalisation after the first convolution would undo any.
        x = pictures.permute(0, 3, 1, 2).to(torch.float32)
        fine = self.fine(self.stem(x))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.to_middle(middle + _doubled(coarse))
        fine = self.to_fine(fine + _doubled(middle))
        grids = [head(grid) for head, grid in zip(self.heads, (fine, middle, coarse), strict=True)]
        answers = [
            _decoded(grid.float(), stride) for grid, stride in zip(grids, STRIDES, strict=True)
        ]
        return (
            torch.cat([logit for logit, _ in answers], 1),
            torch.cat([where for _, where in answers], 1),
        )

    def example(self, batch: int) -> tuple[Tensor, ...]:
        """Inputs for the exporter and for tests; their sides vary with `batch`."""
        shape = (batch, 64 + 32 * batch, 96, 3)
        return (torch.randint(0, 256, shape, dtype=torch.uint8),)


def _block(width: int, kernel: int) -> nn.Sequential:
    """A convolution across channels, then one within each (after Howard et al., "MobileNets")."""
    return nn.Sequential(
        nn.Conv2d(width, width, 1, bias=False),
        nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


def _halving(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """The same the other way round: with the grid halved first there is less to do."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, kernel, stride=2, padding=kernel // 2, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _stage(inputs: int, outputs: int, depth: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        _halving(inputs, outputs, kernel), *(_block(outputs, kernel) for _ in range(depth))
    )


def _doubled(grid: Tensor) -> Tensor:
    return nn.functional.interpolate(grid, scale_factor=2.0, mode="nearest")


def _decoded(grid: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """[N, 15, h, w] of one grid -> logit [N, h * w] and places [N, h * w, 14] in pixels.

    The net gives centre and points as offsets from the place and sides as logarithms, in strides.
    """
    height, width = grid.shape[2:]
    ys = torch.arange(height, device=grid.device)[:, None].expand(height, width)
    xs = torch.arange(width, device=grid.device)[None].expand(height, width)
    origin = torch.stack([xs, ys], -1).reshape(1, -1, 2).to(grid.dtype) * stride
    values = grid.flatten(2).transpose(1, 2)
    centre = origin + values[..., 1:3] * stride
    half = values[..., 3:5].clamp(-4, 4).exp() * (stride / 2)
    points = origin.repeat(1, 1, 5) + values[..., 5:15] * stride
    return values[..., 0], torch.cat([centre - half, centre + half, points], -1)
