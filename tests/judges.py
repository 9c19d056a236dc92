"""Judges for workers on a cluster: what takes long to import would be imported by each of them."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from avfake.types import AvfakeError, Prediction
from avfake.workers import Judge, Models


class Placed:
    """Does what the file's name says, and tells where it is."""

    def predict(self, path: str, longest: float | None = None) -> Prediction:
        what = Path(path).stem.split("-")[0]
        if what == "exit":
            os._exit(3)
        if what == "sleep":
            time.sleep(600)
        if what == "slow":
            time.sleep(0.2)
        if what == "actor":  # takes what supervises this process along
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        if what == "once":
            marker = Path(path).with_suffix(".seen")
            if not marker.exists():
                marker.touch()
                os._exit(1)
        seconds = {
            "raylet": float(os.environ.get("RAY_RAYLET_PID", 0)),
            "actor": float(os.getppid()),
            "pid": float(os.getpid()),
            "longest": longest or 0.0,
        }
        return Prediction(path, "ok", logit=0.0, verdict="uncertain", seconds=seconds)


@dataclass(frozen=True)
class Slow(Models):
    """In the place of models: what `Placed` does."""

    def __call__(self) -> Judge:
        return Placed()


def damaged() -> Placed:
    raise AvfakeError("bundle_damaged", "The bundle is damaged.")
