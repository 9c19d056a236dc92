"""What a run tells while it goes: a line on the terminal, log.jsonl, TensorBoard events.

    tensorboard --logdir runs

A resumed run strikes out what its predecessor logged after the checkpoint, so that both logs read
like those of an unbroken run.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch.utils.tensorboard import SummaryWriter

from training.checkpoints import Standing

LINE_SECONDS = 30.0  # between lines where there is no terminal to draw on


class Journal:
    """The logs in `out` of a run of `steps` steps that goes on from where `standing` says.

    `header` becomes the first row of a new run's log.jsonl. Use it as a context.
    """

    def __init__(self, out: Path, standing: Standing, steps: int, header: dict[str, Any]) -> None:
        self._path = out / "log.jsonl"
        self._first, self._steps = standing.step, steps
        self._before = standing.seconds
        self._started = self._told = time.monotonic()
        console = Console()
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
        self._bar = Progress(
            *columns, console=console, refresh_per_second=2, disable=not console.is_terminal
        )
        self._task = self._bar.add_task("", total=steps, completed=self._first)
        events = out / "tensorboard"
        if self._first == 0:
            self._path.unlink(missing_ok=True)
            if events.exists():
                shutil.rmtree(events)
            self._append(header)
        else:
            _strike_out(self._path, self._first)
            self._append({"resumed_at": self._first})
        self._writer = SummaryWriter(str(events), purge_step=self._first + 1)

    def __enter__(self) -> Journal:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._writer.close()

    @property
    def seconds(self) -> float:
        """That the run has taken, those before it was resumed included."""
        return self._before + time.monotonic() - self._started

    def step(self, standing: Standing, loss: float, lr: float) -> None:
        """A step is done: where the run stands now, the step's own loss and learning rate."""
        step, best = standing.step, standing.best
        self._writer.add_scalar("train/loss", loss, step)
        self._writer.add_scalar("train/learning_rate", lr, step)
        pace = (step - self._first) / (self.seconds - self._before)
        words = f"loss {standing.running:.4f}, {pace:.3g} steps/s, {self._left(step)} left"
        if best is not None:
            words += f", best {best:.4f}"
        self._bar.update(self._task, completed=step, description=words)
        now = time.monotonic()
        if self._bar.disable and now - self._told >= LINE_SECONDS:
            self._told = now
            print(f"step {step}/{self._steps}: {words}", flush=True)

    def record(self, standing: Standing, figures: dict[str, float]) -> None:
        """A row of log.jsonl: the held-out figures at this step, with the smoothed loss."""
        step, eta = standing.step, self._left(standing.step)
        row = {"step": step, "train_loss": round(standing.running, 4), **figures}
        timings = {"seconds": round(self.seconds), "eta_seconds": round(eta.total_seconds())}
        self._append(row | timings)
        for name, value in figures.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                self._writer.add_scalar(f"heldout/{name}", value, step)

    def flush(self) -> None:
        """Hand all events to the system: before a checkpoint, which they must not fall behind."""
        self._writer.flush()

    def _left(self, step: int) -> timedelta:
        """At the pace of this process so far, evaluations included."""
        spent = self.seconds - self._before
        return timedelta(seconds=round(spent / (step - self._first) * (self._steps - step)))

    def _append(self, row: dict[str, Any]) -> None:
        line = json.dumps(row)
        print(line, flush=True)
        with self._path.open("a") as file:
            file.write(line + "\n")


def _strike_out(path: Path, last: int) -> None:
    """Drop rows of steps after `last`, and a last line that a kill cut short."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    kept = [
        line for line in lines if line.endswith("\n") and json.loads(line).get("step", 0) <= last
    ]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(kept))
    os.replace(partial, path)
