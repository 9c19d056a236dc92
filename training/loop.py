"""The training loop that all branches share.

A branch brings a model, a data set whose item `i` is the whole batch of step `i` (seeded by `i`,
so that a resumed run sees what an unbroken one would), a loss and an evaluation. The loop gives
AdamW with warm-up and cosine decay, weight averaging (EMA), a JSONL log, the best weights by
held-out loss, and resumption after a kill. Weights and optimiser state are safetensors, never
pickle.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. `lr` is the peak; warm-up is linear, decay is half a cosine."""

    steps: int
    lr: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.01
    ema: float = 0.995
    evaluate_every: int = 200
    clip_norm: float = 1.0
    workers: int = 1

    def lr_at(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def fit(
    model: nn.Module,
    batches: Dataset,
    loss: Callable[[nn.Module, Any], Tensor],
    evaluate: Callable[[nn.Module], dict[str, float]],
    schedule: Schedule,
    out: Path,
    config: dict[str, Any],
) -> dict[str, float]:
    """Train `model`; return the evaluation of the best averaged weights.

    `evaluate(model)` gets the averaged model in eval mode and returns figures, "loss" among them
    (lower is better). `config` is stored inside `best.safetensors`, enough to rebuild the model:
    `Model(**config)`. Running again with the same `out` resumes from `last.safetensors`.
    """
    out.mkdir(parents=True, exist_ok=True)
    averaged = copy.deepcopy(model).eval().requires_grad_(False)
    decay = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decay}, {"params": plain, "weight_decay": 0.0}],
        lr=schedule.lr,
        weight_decay=schedule.weight_decay,
    )
    state = _resume(out / "last.safetensors", model, averaged, optimiser)
    first, best = state.get("step", 0), state.get("best", math.inf)
    if first == 0:
        (out / "log.jsonl").unlink(missing_ok=True)
        _log(out, {"schedule": asdict(schedule), "config": config})
    elif first < schedule.steps:
        _log(out, {"resumed_at": first})
    loader = DataLoader(
        Subset(batches, range(first, schedule.steps)),
        batch_size=None,
        num_workers=schedule.workers,
    )
    started, running = time.monotonic(), None
    for step, batch in enumerate(loader, start=first):
        for group in optimiser.param_groups:
            group["lr"] = schedule.lr_at(step)
        # Dropout and the like draw from the global generator: seeded by step, so runs can resume.
        torch.manual_seed(step)
        model.train()
        value = loss(model, batch)
        if not torch.isfinite(value):
            raise FloatingPointError(f"loss became {value.item()} at step {step}")
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), schedule.clip_norm)
        optimiser.step()
        # A short average first, so that early evaluations are not of the random start.
        _average(averaged, model, min(schedule.ema, (1 + step) / (10 + step)))
        running = value.item() if running is None else 0.98 * running + 0.02 * value.item()
        if (step + 1) % schedule.evaluate_every == 0 or step + 1 == schedule.steps:
            figures = evaluate(averaged)
            if figures["loss"] < best:
                best = figures["loss"]
                save(averaged, out / "best.safetensors", config, figures)
            _save_state(out / "last.safetensors", model, averaged, optimiser, step + 1, best)
            spent = time.monotonic() - started
            eta = spent / (step + 1 - first) * (schedule.steps - step - 1)
            row = {"step": step + 1, "train_loss": round(running, 4), **figures}
            _log(out, row | {"seconds": round(spent), "eta_seconds": round(eta)})
    return load_figures(out / "best.safetensors")


def save(model: nn.Module, path: Path, config: dict[str, Any], figures: dict[str, float]) -> None:
    """Weights with all that is needed to rebuild the model and know its worth, atomically."""
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    metadata = {"config": json.dumps(config), "figures": json.dumps(figures)}
    _write(tensors, path, metadata)


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(state dict, config) of a checkpoint that `save` wrote."""
    with safe_open(path, "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return state, json.loads(file.metadata()["config"])


def load_figures(path: Path) -> dict[str, float]:
    """The held-out figures stored with a checkpoint."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["figures"])


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, keep: float) -> None:
    for old, new in zip(averaged.parameters(), model.parameters(), strict=True):
        old.lerp_(new, 1 - keep)
    for old, new in zip(averaged.buffers(), model.buffers(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - keep)
        else:
            old.copy_(new)


def _save_state(
    path: Path,
    model: nn.Module,
    averaged: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    best: float,
) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"averaged.{name}": value for name, value in averaged.state_dict().items()}
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in slots.items()}
    tensors = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    _write(tensors, path, {"state": json.dumps({"step": step, "best": best})})


def _resume(
    path: Path, model: nn.Module, averaged: nn.Module, optimiser: torch.optim.Optimizer
) -> dict[str, Any]:
    if not path.exists():
        return {}
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "averaged": {}, "optimiser": {}}
    with safe_open(path, "pt") as file:
        state = json.loads(file.metadata()["state"])
        for name in file.keys():  # noqa: SIM118 (not a dict)
            part, rest = name.split(".", 1)
            parts[part][rest] = file.get_tensor(name)
    model.load_state_dict(parts["model"])
    averaged.load_state_dict(parts["averaged"])
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimiser"].items():
        index, slot = name.split(".")
        slots.setdefault(int(index), {})[slot] = value
    optimiser.load_state_dict(
        {"state": slots, "param_groups": optimiser.state_dict()["param_groups"]}
    )
    return state


def _write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata)
    os.replace(partial, path)


def _log(out: Path, row: dict[str, Any]) -> None:
    line = json.dumps(row)
    print(line, flush=True)
    with (out / "log.jsonl").open("a") as file:
        file.write(line + "\n")
