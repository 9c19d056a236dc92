"""The training loop that all branches share.

A branch brings a model, a data set of whole batches (item `i` is seeded by `i`), a loss and an
evaluation. The loop gives AdamW with warm-up and cosine decay, weight averaging (EMA), logs, the
best weights by held-out loss, and resumption after a kill: on a CPU to the very same bits, because
all randomness is a function of the batch's number and the state holds all the rest.

With several processes (torchrun) or with accumulated gradients, a step takes more than one batch:
turn t of process r at step s takes batch (s * accumulate + t) * world + r. So two processes learn
from the batches that one with accumulate = 2 does. The learning rate is used as given, however
many batches a step has: with AdamW, multiply it by the square root of their number (Malladi et al.
2022) and take fewer steps. The statistics of batch norm are those of the first process.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, Subset

from training.checkpoints import Learner, Standing, load_figures, load_run, save, save_run
from training.journal import Journal
from training.runtime import Runtime

Loss = Callable[[nn.Module, Any], Tensor]
Evaluate = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. `lr` is the peak; warm-up is linear, decay is half a cosine.

    `accumulate`: batches of a process whose gradients make a step, for models that a whole batch
    is too much for. `workers`: processes that make batches, 0 for none beside the training one.
    """

    steps: int
    lr: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.01
    ema: float = 0.995
    evaluate_every: int = 200
    clip_norm: float = 1.0
    workers: int = 1
    accumulate: int = 1

    def lr_at(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def batches(self, world: int = 1) -> int:
        """How many batches a whole run of `world` processes takes: what its data set must hold."""
        return self.steps * self.accumulate * world


def fit(
    model: nn.Module,
    batches: Dataset,
    loss: Loss,
    evaluate: Evaluate,
    schedule: Schedule,
    out: Path,
    config: dict[str, Any],
    runtime: Runtime | None = None,
) -> dict[str, float]:
    """Train `model` on the runtime's device; return the evaluation of the best averaged weights.

    `loss(model, batch)` is the mean over a batch, which is on the device; it runs under the
    runtime's autocast and may call any method of the model. `evaluate(model)` gets the averaged
    model in eval mode, on the device, and returns figures, "loss" among them (lower is better);
    only the first process calls it. `config` is stored inside `best.safetensors`, enough to
    rebuild the model: `Model(**config)`. Without `runtime`: one process on the CPU.

    Running again with the same `out` resumes from `last.safetensors`. Raises ResumeError if that
    is of a run with another schedule, config, precision or number of batches a step, and
    FloatingPointError when a loss is no finite number.
    """
    if runtime is None and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("this recipe runs in one process: start it without torchrun")
    run = Run(schedule, config, out, runtime or Runtime())
    out.mkdir(parents=True, exist_ok=True)
    model.to(run.runtime.device)
    objective = _objective(model, loss, run.runtime)
    averaged = copy.deepcopy(model).eval().requires_grad_(False)
    learner = Learner(model, averaged, _optimiser(model, schedule))
    standing = load_run(run.last, learner, run.description())
    if run.runtime.chief:
        _mend_best(run, averaged, standing)
    if standing.step < schedule.steps:
        stream = _stream(batches, run, standing.step)
        with _journal(run, standing) if run.runtime.chief else nullcontext() as journal:
            for step in range(standing.step, schedule.steps):
                value = _learn(learner, objective, stream, schedule, step)
                standing = standing.after(value)
                if journal:
                    journal.step(standing, value, schedule.lr_at(step))
                    standing = _keep(run, learner, evaluate, standing, journal)
    if run.runtime.world > 1:
        distributed.barrier()  # now the best weights are there for all to read
    return load_figures(run.best)


@dataclass(frozen=True)
class Run:
    """What a run is, as opposed to where it stands."""

    schedule: Schedule
    config: dict[str, Any]
    out: Path
    runtime: Runtime

    @property
    def last(self) -> Path:
        return self.out / "last.safetensors"

    @property
    def best(self) -> Path:
        return self.out / "best.safetensors"

    @property
    def batches_a_step(self) -> int:
        return self.schedule.accumulate * self.runtime.world

    def description(self) -> dict[str, Any]:
        """All that must be the same for the run to be resumed."""
        schedule = asdict(self.schedule)
        del schedule["workers"], schedule["accumulate"]
        described = {"batches a step": self.batches_a_step, "bf16": self.runtime.bf16}
        return schedule | described | {"config": self.config}


def _journal(run: Run, standing: Standing) -> Journal:
    header = {"schedule": asdict(run.schedule), "config": run.config}
    header["runtime"] = asdict(run.runtime)
    return Journal(run.out, standing, run.schedule.steps, header)


def _keep(
    run: Run, learner: Learner, evaluate: Evaluate, standing: Standing, journal: Journal
) -> Standing:
    """What the first process does after each step: evaluate and save, when it is time to.

    The logs are written first, then `last.safetensors`, then the best weights. What a kill leaves
    in excess of `last`, or undone after it, is mended when the run resumes.
    """
    done = standing.step
    evaluated = done % run.schedule.evaluate_every == 0 or done == run.schedule.steps
    if evaluated:
        figures = evaluate(learner.averaged)
        if not math.isfinite(figures["loss"]):
            raise FloatingPointError(f"held-out loss became {figures['loss']} after step {done}")
        journal.record(standing, figures)
        if standing.best is None or figures["loss"] < standing.best:
            standing = replace(standing, best=figures["loss"], best_step=done, figures=figures)
    if evaluated or journal.seconds - standing.seconds >= run.runtime.save_seconds:
        standing = replace(standing, seconds=journal.seconds)
        journal.flush()
        save_run(run.last, learner, standing, run.description())
        if standing.best_step == done:
            save(learner.averaged, run.best, run.config, standing.figures)
    return standing


def _mend_best(run: Run, averaged: nn.Module, standing: Standing) -> None:
    """Make `best.safetensors` what `standing` tells."""
    if standing.step == 0:
        run.best.unlink(missing_ok=True)  # of an older run
        return
    # The kill may have come between the two writes. A better loss has other figures.
    kept = load_figures(run.best) if run.best.exists() else None
    if standing.best_step == standing.step and kept != standing.figures:
        save(averaged, run.best, run.config, standing.figures)


class _Objective(nn.Module):
    """Model and loss as one module, for DDP and torch.compile to wrap: a loss may call any method
    of a model, and these two see only `forward`.
    """

    def __init__(self, model: nn.Module, loss: Loss, runtime: Runtime) -> None:
        super().__init__()
        self.model, self.loss, self.runtime = model, loss, runtime

    def forward(self, batch: Any) -> Tensor:
        with self.runtime.autocast():
            return self.loss(self.model, batch)


def _objective(model: nn.Module, loss: Loss, runtime: Runtime) -> nn.Module:
    objective = _Objective(model, loss, runtime)
    if runtime.compile:
        objective.compile()
    if runtime.world == 1:
        return objective
    # A loss need not use all of the model: lip-sync's judge learns apart from its towers.
    return DistributedDataParallel(objective, find_unused_parameters=True)


def _optimiser(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW that spares biases and norms from weight decay."""
    decay = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": decay}, {"params": plain, "weight_decay": 0.0}],
        lr=schedule.lr,
        weight_decay=schedule.weight_decay,
    )


def _stream(batches: Dataset, run: Run, step: int) -> Iterator[Any]:
    """This process's batches from `step` on, each on the device."""
    runtime, each = run.runtime, run.batches_a_step
    items = range(step * each + runtime.rank, run.schedule.steps * each, runtime.world)
    loader = DataLoader(
        Subset(batches, items),
        batch_size=None,
        num_workers=run.schedule.workers,
        pin_memory=runtime.on_gpu,
    )
    for item, batch in zip(items, loader, strict=True):
        # Dropout and the like draw from the global generator: seeded by batch, so runs can resume.
        torch.manual_seed(item)
        yield runtime.move(batch)


def _learn(
    learner: Learner, objective: nn.Module, stream: Iterator[Any], schedule: Schedule, step: int
) -> float:
    """One step; the mean loss of its batches, those of all processes."""
    for group in learner.optimiser.param_groups:
        group["lr"] = schedule.lr_at(step)
    learner.model.train()
    learner.optimiser.zero_grad(set_to_none=True)
    distribute = isinstance(objective, DistributedDataParallel)
    losses = []
    for turn in range(schedule.accumulate):
        more = turn + 1 < schedule.accumulate
        with objective.no_sync() if distribute and more else nullcontext():
            value = objective(next(stream)) / schedule.accumulate
            value.backward()
        losses.append(value.detach())
    total = torch.stack(losses).sum()
    if distribute:
        distributed.all_reduce(total)
        total /= distributed.get_world_size()
    # Known to all processes alike: they stop together.
    value = total.item()
    if not math.isfinite(value):
        raise FloatingPointError(f"loss became {value} at step {step}")
    nn.utils.clip_grad_norm_(learner.model.parameters(), schedule.clip_norm)
    learner.optimiser.step()
    # A short average first, so that early evaluations are not of the random start.
    _average(learner.averaged, learner.model, min(schedule.ema, (1 + step) / (10 + step)))
    return value


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, keep: float) -> None:
    for old, new in zip(averaged.parameters(), model.parameters(), strict=True):
        old.lerp_(new, 1 - keep)
    for old, new in zip(averaged.buffers(), model.buffers(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - keep)
        else:
            old.copy_(new)
