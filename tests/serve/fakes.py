"""A stand-in for the detector that does what a file's content says."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avfake.limits import Limits
from avfake.types import AvfakeError, Prediction, Progress


class Bundle:
    shipped = False

    def to_dict(self) -> dict[str, str]:
        return {"name": "some", "version": "1", "sha256": "0" * 64}

    def threshold(self, name: str) -> float:
        return {"likely_real": 0.3, "likely_fake": 0.7}[name]


class Scripted:
    """Judges by the first word of a file."""

    bundle = Bundle()
    limits = Limits()

    def predict(
        self,
        path: Path,
        longest: float | None = None,
        tell: Callable[[Progress], None] = lambda progress: None,
    ) -> Prediction:
        content = path.read_bytes()
        what = content.split(maxsplit=1)[0].decode(errors="replace") if content else "empty"
        facts = self.bundle.to_dict()
        if what == "slow":  # until it is told to go on
            tell(Progress("faces", 0.25))
            while not path.with_name("go").exists():
                time.sleep(0.02)
        if what == "hang":
            tell(Progress("branches", 1.0))
            time.sleep(600)
        if what == "segfault":
            ctypes.string_at(0)
        if what == "once" and not (seen := path.with_name("seen")).exists():
            seen.touch()
            os._exit(3)
        if what == "greedy":
            held = [b"x" * (1 << 20) for _ in range(1 << 11)]
            raise AssertionError(len(held))
        if what == "raise":
            raise RuntimeError(f"nobody foresaw {path}")
        if what == "bad":
            text = f"{path.name} is damaged."
            return Prediction(str(path), "error", "not_media", text, bundle=facts)
        return Prediction(str(path), "ok", logit=0.5, verdict="uncertain", bundle=facts)


def scripted() -> Any:
    return Scripted()


def damaged() -> Any:
    raise AvfakeError("bundle_damaged", "/secret/place/visual.onnx is damaged.")


def broken_later(flag: str) -> Any:
    """Loads once, and not again once the file `flag` is there."""
    if Path(flag).exists():
        damaged()
    return Scripted()


def dying() -> Any:
    os._exit(7)
