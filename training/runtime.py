"""What a training runs on: device, precision, threads, and processes started by torchrun.

    parser = argparse.ArgumentParser()
    Runtime.add_arguments(parser)
    with Runtime.from_options(parser.parse_args()).started() as runtime:
        train(..., runtime)

    torchrun --nproc-per-node 2 -m training.lipsync ...

Every process sees all of the data set and learns from its own share of the batches (see
`training.loop`). The first one alone evaluates, writes and prints. All of them must see the same
`--out` folder.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from training.checkpoints import ResumeError

# The others wait for the first process while it evaluates, which can take longer than the
# minutes after which torch takes a process for dead.
PATIENCE = timedelta(hours=3)


@dataclass(frozen=True)
class Runtime:
    """Where and how a training computes; what it learns is the recipe's.

    `device`: "cpu", "cuda" or "cuda:N". `bf16`: mixed precision by autocast while training;
    evaluation stays float32. `compile`: model and loss go through `torch.compile`. `threads`: of
    torch on the CPU, None for torch's own choice. `save_seconds`: a checkpoint at least this
    often. `rank` of `world` processes.
    """

    device: str = "cpu"
    bf16: bool = False
    compile: bool = False
    threads: int | None = None
    save_seconds: float = 300.0
    rank: int = 0
    world: int = 1

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The options that all recipes share."""
        group = parser.add_argument_group("what to run on")
        group.add_argument(
            "--device", type=_device, default="auto", help="auto (the default), cpu or cuda"
        )
        group.add_argument("--threads", type=int, help="of torch on the CPU; its choice by default")
        group.add_argument("--bf16", action="store_true", help="mixed precision")
        group.add_argument("--compile", action="store_true", help="through torch.compile")
        group.add_argument(
            "--save-seconds", type=float, default=300.0, help="between checkpoints, at most"
        )

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Runtime:
        """What `add_arguments` read, and this process's place as torchrun tells it."""
        device = options.device
        if device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        return cls(
            device,
            options.bf16,
            options.compile,
            options.threads,
            options.save_seconds,
            int(os.environ.get("RANK", 0)),
            int(os.environ.get("WORLD_SIZE", 1)),
        )

    @property
    def chief(self) -> bool:
        """Whether this is the process that evaluates and writes."""
        return self.rank == 0

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")

    @contextmanager
    def started(self) -> Iterator[Runtime]:
        """Set up torch and join the other processes, whose prints are dropped.

        A refusal to resume ends the program with its one sentence.
        """
        if self.threads:
            torch.set_num_threads(self.threads)
        if self.on_gpu:
            torch.cuda.set_device(self.device)
            torch.set_float32_matmul_precision("high")  # TF32
            torch.backends.cudnn.benchmark = True
        if self.world > 1:
            distributed.init_process_group("nccl" if self.on_gpu else "gloo", timeout=PATIENCE)
        try:
            if self.chief:
                yield self
            else:
                with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                    yield self
        except ResumeError as error:
            raise SystemExit(f"error: {error}") from None
        # Not after an error: the others may be gone, and this would wait for them.
        if self.world > 1:
            distributed.destroy_process_group()

    def move(self, batch: Any) -> Any:
        """`batch` with every tensor in its tuples, lists and dicts on the device."""
        if isinstance(batch, Tensor):
            return batch.to(self.device, non_blocking=True)
        if isinstance(batch, dict):
            return {name: self.move(value) for name, value in batch.items()}
        if isinstance(batch, (tuple, list)):
            return type(batch)(self.move(value) for value in batch)
        return batch

    def autocast(self) -> torch.autocast:
        """Mixed precision, where it was asked for."""
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.bf16)


def device_of(model: torch.nn.Module) -> torch.device:
    """Where a model's inputs must be."""
    return next(model.parameters()).device


def _device(name: str) -> str:
    there = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if there else "cpu"
    if name not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{name!r} is none of auto, cpu, cuda")
    if name == "cuda" and not there:
        raise argparse.ArgumentTypeError("torch finds no CUDA device here")
    return name
