"""A training that takes milliseconds, for tests of the loop: also imported by its processes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from training.loop import Schedule

SCHEDULE = Schedule(steps=12, lr=0.02, warmup=3, evaluate_every=3, ema=0.8, workers=0)


class Net(nn.Module):
    """With all that a resumed run could get wrong: dropout, running statistics, bare scalars, and
    a head that the loss leaves out.
    """

    def __init__(self, width: int = 6, drop: float = 0.3, norm: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, width),
            nn.BatchNorm1d(width) if norm else nn.Identity(),
            nn.Dropout(drop),
            nn.Linear(width, 1),
        )
        self.scale = nn.Parameter(torch.ones(()))
        self.unused = nn.Linear(2, 2)

    def score(self, values: Tensor) -> Tensor:
        return self.layers(values)[:, 0] * self.scale


class Batches(torch.utils.data.Dataset):
    """Batch `i` is drawn from `i`; reaching the batch `kill_at` ends the run."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index == self.kill_at:
            raise KeyboardInterrupt
        self.asked.append(index)
        draw = torch.Generator().manual_seed(index)
        values = torch.randn(8, 4, generator=draw)
        return values, values.sum(1)


def loss(net: Net, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (net.score(batch[0]) - batch[1]).square().mean()


def evaluate(net: Net) -> dict[str, float]:
    assert not net.training
    with torch.no_grad():
        return {"loss": float(loss(net, Batches()[999])), "twice": 2.0}


def unlike(one: Path, other: Path) -> list[str]:
    """Names of tensors that are not the same bits in two safetensors files."""
    from safetensors.torch import load_file

    left, right = load_file(one), load_file(other)
    names = left.keys() | right.keys()
    return [
        name
        for name in names
        if name not in left or name not in right or not torch.equal(left[name], right[name])
    ]
