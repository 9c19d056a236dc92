"""Runs killed by SIGKILL, wherever it finds them, end with the very bits of an unbroken one."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
importlib.import_module("torch._dynamo")  # as an optimiser's first step would, in each process

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402

from tests.training.toy import SCHEDULE, Batches, Net, evaluate, loss, unlike  # noqa: E402
from training import checkpoints, journal  # noqa: E402
from training.loop import Schedule, fit  # noqa: E402
from training.runtime import Runtime  # noqa: E402

# Processes that have torch from the start: each is a fork of one that has imported it.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])
TIMINGS = {"seconds", "eta_seconds"}
SHORT = replace(SCHEDULE, steps=4, evaluate_every=2)
FILES = ("best.safetensors", "last.safetensors")


class SlowBatches(Batches):
    """So that a run takes as long as it takes a test to kill it."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        time.sleep(0.01)
        return super().__getitem__(index)


def train(
    out: Path,
    schedule: Schedule = SCHEDULE,
    save_seconds: float = 300.0,
    begun: Event | None = None,
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    if begun:
        begun.set()
    batches = SlowBatches() if begun else Batches()
    runtime = Runtime(save_seconds=save_seconds)
    fit(Net(), batches, loss, evaluate, schedule, out, {"width": 6}, runtime)


def train_and_die(out: Path, moment: int) -> None:
    """Train, and be killed just before the `moment`-th change of a file."""
    changes = 0

    def deadly(change: Callable[..., object]) -> Callable[..., object]:
        def changed(*arguments: object) -> object:
            nonlocal changes
            changes += 1
            if changes == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments)

        return changed

    os.replace = deadly(os.replace)
    checkpoints.save_file = deadly(checkpoints.save_file)
    journal.Journal._append = deadly(journal.Journal._append)
    journal.Journal.flush = deadly(journal.Journal.flush)
    train(out, SHORT, save_seconds=0)


def run(target: Callable[..., None], *arguments: object) -> int:
    """The exit code of a process."""
    process = PROCESSES.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def train_for(seconds: float, out: Path, workers: int) -> int:
    """The exit code of a training that is killed after so many seconds, if it takes them."""
    begun = PROCESSES.Event()
    arguments = (out, replace(SCHEDULE, workers=workers), 0.03, begun)
    process = PROCESSES.Process(target=train, args=arguments)
    process.start()
    begun.wait()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode


def log(out: Path) -> list[dict]:
    """The rows of log.jsonl without timings, and without those that say where a run resumed."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    rows = [{key: row[key] for key in row.keys() - TIMINGS} for row in rows]
    for row in rows:
        if "schedule" in row:
            del row["schedule"]["workers"], row["runtime"]["save_seconds"]
    return [row for row in rows if "resumed_at" not in row]


def events(out: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of all scalars, by tag."""
    read = EventAccumulator(str(out / "tensorboard"), {"scalars": 0})
    read.Reload()
    tags = read.Tags()["scalars"]
    return {tag: [(item.step, item.value) for item in read.Scalars(tag)] for tag in tags}


def assert_same(whole: Path, killed: Path) -> None:
    assert [unlike(whole / name, killed / name) for name in FILES] == [[], []]
    figures, again = (checkpoints.load_figures(run / FILES[0]) for run in (whole, killed))
    assert figures == again
    assert log(whole) == log(killed)
    assert events(whole) == events(killed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert run(train, out) == 0
    return out


def test_the_logs_tell_every_step(whole: Path) -> None:
    told = events(whole)
    assert [step for step, _ in told["train/loss"]] == list(range(1, 13))
    assert [step for step, _ in told["heldout/loss"]] == [3, 6, 9, 12]
    rates = [SCHEDULE.lr_at(step) for step in range(12)]
    assert [value for _, value in told["train/learning_rate"]] == pytest.approx(rates)
    rows = [row for row in log(whole) if "step" in row]
    assert [row["loss"] for row in rows] == pytest.approx([v for _, v in told["heldout/loss"]])


# A worker of a killed process lives on for seconds, and the test waits for it.
@pytest.mark.parametrize(("workers", "kills"), [(0, 8), (1, 2)])
def test_killed_at_random_it_ends_the_same(
    whole: Path, tmp_path: Path, workers: int, kills: int
) -> None:
    chance = random.Random(5)
    codes = [train_for(chance.uniform(0.0, 0.2), tmp_path, workers) for _ in range(kills)]
    assert -signal.SIGKILL in codes
    assert run(train, tmp_path) == 0
    assert_same(whole, tmp_path)


def test_killed_at_any_write_it_ends_the_same(tmp_path: Path) -> None:
    """Each run dies one file change later than the one before it, until one comes through."""
    whole = tmp_path / "whole"
    assert run(train, whole, SHORT) == 0
    for moment in range(1, 100):
        out = tmp_path / str(moment)
        code = run(train_and_die, out, moment)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert run(train, out, SHORT) == 0
        assert_same(whole, out)
    # Each of four steps makes three changes, each of two evaluations three more, the header one.
    assert moment == 20


def test_a_line_that_a_kill_cut_short_is_struck_out(tmp_path: Path) -> None:
    assert run(train, tmp_path / "whole", SHORT) == 0
    killed = tmp_path / "killed"
    assert run(train_and_die, killed, 12) == -signal.SIGKILL
    with (killed / "log.jsonl").open("a") as file:
        file.write('{"step": 9, "train')
    assert run(train, killed, SHORT) == 0
    assert_same(tmp_path / "whole", killed)
