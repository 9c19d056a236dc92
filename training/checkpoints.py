"""Weights and the state of a run on disk: safetensors, never pickle, each file replaced at once.

`best.safetensors` is for use: averaged weights, the arguments to rebuild the model, its held-out
figures. `last.safetensors` is all that a killed run needs to go on: model, averaged model,
optimiser, where it stood, and which run it was. A new best is first told in `last` and then
written to `best`; a kill between the two is made good when the run resumes.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer


class ResumeError(ValueError):
    """A folder holds another run than the one that was to resume there."""


@dataclass(frozen=True)
class Learner:
    """All that training changes: the model, its average over the steps, the optimiser."""

    model: nn.Module
    averaged: nn.Module
    optimiser: Optimizer


@dataclass(frozen=True)
class Standing:
    """Where a run stands: `step` steps done; held-out loss and other figures of the best weights,
    and after how many steps they were found; the smoothed training loss; seconds spent.
    """

    step: int = 0
    best: float | None = None
    best_step: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    running: float = math.nan
    seconds: float = 0.0

    def after(self, loss: float) -> Standing:
        """One step on, of which the loss was `loss`."""
        running = loss if math.isnan(self.running) else 0.98 * self.running + 0.02 * loss
        return replace(self, step=self.step + 1, running=running)


def save(model: nn.Module, path: Path, config: dict[str, Any], figures: dict[str, float]) -> None:
    """Weights with all that is needed to rebuild the model and know its worth, atomically."""
    metadata = {"config": json.dumps(config), "figures": json.dumps(figures)}
    _write(dict(model.state_dict()), path, metadata)


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(state dict on the CPU, config) of a checkpoint that `save` wrote."""
    with safe_open(path, "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return state, json.loads(file.metadata()["config"])


def load_figures(path: Path) -> dict[str, float]:
    """The held-out figures stored with a checkpoint."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["figures"])


def save_run(path: Path, learner: Learner, standing: Standing, run: dict[str, Any]) -> None:
    """All that `load_run` needs to go on from `standing`, atomically."""
    tensors = {f"model.{name}": value for name, value in learner.model.state_dict().items()}
    for name, value in learner.averaged.state_dict().items():
        tensors[f"averaged.{name}"] = value
    for index, slots in learner.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in slots.items()}
    _write(tensors, path, {"state": json.dumps(asdict(standing)), "run": json.dumps(run)})


def load_run(path: Path, learner: Learner, run: dict[str, Any]) -> Standing:
    """Fill `learner` from `path`; the start of a run if there is no such file.

    Raises ResumeError where the file is of a run with another description than `run`.
    """
    if not path.exists():
        return Standing()
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "averaged": {}, "optimiser": {}}
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        _check_same_run(path, json.loads(metadata.get("run", "{}")), run)
        for name in file.keys():  # noqa: SIM118 (not a dict)
            part, rest = name.split(".", 1)
            parts[part][rest] = file.get_tensor(name)
    learner.model.load_state_dict(parts["model"])
    learner.averaged.load_state_dict(parts["averaged"])
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimiser"].items():
        index, slot = name.split(".")
        slots.setdefault(int(index), {})[slot] = value
    groups = learner.optimiser.state_dict()["param_groups"]
    learner.optimiser.load_state_dict({"state": slots, "param_groups": groups})
    return Standing(**json.loads(metadata["state"]))


def _check_same_run(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """Files of before runs were described tell nothing of theirs and are taken as they are."""
    now = json.loads(json.dumps(now))  # tuples become lists, as they did in the file
    changed = [
        f"{name} {then[name]!r}, not {now.get(name)!r}"
        for name in then
        if then[name] != now.get(name)
    ]
    if changed:
        raise ResumeError(
            f"{path} is of a run with {'; '.join(changed)}: resume it with what it began with, "
            "or choose another folder"
        )


def _write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    # Clones: tied weights share memory, which the format refuses.
    copies = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    partial = path.with_suffix(".partial")
    save_file(copies, partial, metadata)
    with partial.open("rb") as file:
        os.fsync(file.fileno())  # else a power cut may leave the new name with no content
    os.replace(partial, path)
