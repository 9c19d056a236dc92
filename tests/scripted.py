"""A stand-in for the detector that does what a file's content says, and runs of it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from avfake import lines
from avfake.batch import Outcome, run
from avfake.scores import Row, Scores
from avfake.sources import Files
from avfake.types import Prediction
from avfake.workers import judge_each

BUNDLE = {"name": "some", "version": "1", "sha256": "models"}
MEMORY = 400 << 20  # bytes a worker


class Scripted:
    """Judges by the first word of a file; each but the first three is a way to fail."""

    def predict(self, path: str, longest: float | None = None) -> Prediction:
        what, _, value = Path(path).read_text().strip().partition(" ")
        spent = {"total": time.perf_counter() % 1}
        if what == "ok":
            time.sleep(0.02)
            return Prediction(path, "ok", logit=float(value or 0), verdict="", seconds=spent)
        if what == "abstain":
            return Prediction(path, "abstain", "no_evidence", "Nothing.", seconds=spent)
        if what == "bad":
            text = f"{Path(path).name} is bad."
            return Prediction(path, "error", "not_media", text, seconds=spent)
        if what == "segfault":
            ctypes.string_at(0)
        if what == "exit":
            os._exit(3)
        if what == "sleep":
            time.sleep(600)
        if what == "allocate":
            held = []
            while True:
                held.append(bytearray(b"x") * (16 << 20))
        if what == "print":
            for _ in range(1024):
                os.write(1, b"x" * (1 << 20))
        if what == "once" and not os.path.exists(value):
            Path(value).touch()
            os._exit(1)
        return Prediction(path, "ok", logit=1.0, verdict="", seconds=spent)


def run_scripted(
    inputs: list[str], out: str | Path, workers: int = 2, timeout: float = 10.0, **more: Any
) -> Outcome:
    """Judge `inputs` in worker processes, going on with what `out` holds."""
    is_stale = more.pop("is_stale", _never)
    with Files(inputs) as files, Scores(out, "models", {}, True, is_stale) as scores:
        engine = partial(judge_each, load=Scripted, workers=workers, memory=MEMORY, attempts=2)
        return run(files, scores, engine, BUNDLE, timeout, **more)


def _never(name: str, member: str | None, row: Row) -> bool:
    return False


class Fatal(lines.FileIO):
    """A file in the midst of whose n-th write the process is killed."""

    left = 0

    def write(self, data: Any) -> int:
        Fatal.left -= 1
        if Fatal.left == 0:
            super().write(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(data)


if __name__ == "__main__":  # python -m tests.scripted WRITES OUT INPUT...
    Fatal.left = int(sys.argv[1])
    lines.FileIO = Fatal  # type: ignore[misc]
    run_scripted(sys.argv[3:], sys.argv[2])
