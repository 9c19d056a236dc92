"""Two processes, as torchrun starts them, learn what one learns from both their batches."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
importlib.import_module("torch._dynamo")  # as an optimiser's first step would, in each process

from safetensors.torch import load_file, save_file  # noqa: E402

from tests.training.toy import SCHEDULE, Batches, Net, evaluate, loss, unlike  # noqa: E402
from training import loop  # noqa: E402
from training.runtime import Runtime  # noqa: E402

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])
BEST, LAST = "best.safetensors", "last.safetensors"


class SomeBatches(Batches):
    """Tells which were taken, and ends the run at `kill_at`."""

    def __init__(self, kill_at: int | None, seen: Path) -> None:
        super().__init__(kill_at)
        self.seen = seen

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with self.seen.open("a") as file:
            file.write(f"{index}\n")
        return super().__getitem__(index)


def train(out: Path, accumulate: int = 1, kill_at: int | None = None, bad_at: int = -1) -> None:
    """As a recipe does; leaves beside `out` what each process saw and ended with."""
    torch.set_num_threads(1)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    mine = out.parent / f"{out.name}-{rank}"
    mine.mkdir(exist_ok=True)

    def judged(net: Net) -> dict[str, float]:
        (mine / "evaluated").touch()
        return evaluate(net)

    def sometimes_bad(net: Net, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        bad = bad_at >= 0 and torch.equal(batch[1], Batches()[bad_at][1])
        return loss(net, batch) * (float("nan") if bad else 1.0)

    with Runtime(threads=1, rank=rank, world=world).started() as runtime:
        torch.manual_seed(3)
        net = Net(drop=0.0, norm=False)
        print("hello from", rank)
        schedule = replace(SCHEDULE, accumulate=accumulate)
        batches = SomeBatches(kill_at, mine / "seen")
        try:
            figures = loop.fit(
                net, batches, sometimes_bad, judged, schedule, out, {"width": 6}, runtime
            )
        except Exception as error:
            (mine / "error").write_text(f"{type(error).__name__}: {error}")
            raise
        (mine / "figures").write_text(json.dumps(figures))
        save_file(net.state_dict(), mine / "model.safetensors")


def in_place(rank: int, port: int, arguments: tuple, averages: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    average: Callable[..., None] = loop._average

    def kept(averaged: Net, model: Net, keep: float) -> None:
        average(averaged, model, keep)
        save_file(averaged.state_dict(), averages / f"averaged-{rank}.safetensors")

    loop._average = kept
    train(*arguments)


def two_train(*arguments: object) -> list[int]:
    """Exit codes of two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = [
        PROCESSES.Process(target=in_place, args=(rank, port, arguments, arguments[0].parent))
        for rank in range(2)
    ]
    for process in pair:
        process.start()
    for process in pair:
        process.join(120)
    return [process.exitcode for process in pair]


def alone(*arguments: object) -> int:
    process = PROCESSES.Process(target=train, args=arguments)
    process.start()
    process.join(120)
    return process.exitcode


def close(one: Path, other: Path) -> None:
    left, right = load_file(one), load_file(other)
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(right[name], value)


def seen(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "seen").read_text().splitlines()]


def test_two_learn_what_one_does(tmp_path: Path) -> None:
    assert two_train(tmp_path / "two") == [0, 0]
    assert alone(tmp_path / "one", 2) == 0
    ends = [tmp_path / f"two-{rank}" for rank in range(2)]
    # Both end alike, to the bit, averages and all.
    assert unlike(*(end / "model.safetensors" for end in ends)) == []
    assert unlike(*(tmp_path / f"averaged-{rank}.safetensors" for rank in range(2))) == []
    assert (ends[0] / "figures").read_text() == (ends[1] / "figures").read_text()
    # Each took every second batch, and only the first evaluated.
    assert [seen(end) for end in ends] == [list(range(0, 24, 2)), list(range(1, 24, 2))]
    assert [(end / "evaluated").exists() for end in ends] == [True, False]
    # Alone, with both their batches a step, it learns the same.
    assert seen(tmp_path / "one-0") == list(range(24))
    for name in (BEST, LAST):
        close(tmp_path / "one" / name, tmp_path / "two" / name)
    rows = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    for one, two in zip(*rows, strict=True):
        if "step" in one:
            assert two["train_loss"] == pytest.approx(one["train_loss"], abs=2e-4)


def test_two_go_on_where_they_were(tmp_path: Path) -> None:
    assert two_train(tmp_path / "whole") == [0, 0]
    assert 0 not in two_train(tmp_path / "killed", 1, 15)
    assert two_train(tmp_path / "killed") == [0, 0]
    for name in (BEST, LAST):
        assert unlike(tmp_path / "whole" / name, tmp_path / "killed" / name) == []
    # Of step 7 (from 0), one process took batch 14 and the other died at 15.
    assert max(seen(tmp_path / "killed-0")[:8]) == 14


def test_one_goes_on_for_two_with_as_many_batches_a_step(tmp_path: Path) -> None:
    assert two_train(tmp_path / "whole") == [0, 0]
    assert 0 not in two_train(tmp_path / "killed", 1, 15)
    assert alone(tmp_path / "killed", 1) == 1
    told = (tmp_path / "killed-0" / "error").read_text()
    assert told.startswith("ResumeError")
    assert "batches a step 2, not 1" in told
    assert alone(tmp_path / "killed", 2) == 0
    close(tmp_path / "whole" / BEST, tmp_path / "killed" / BEST)


def test_both_stop_at_a_loss_that_is_no_number(tmp_path: Path) -> None:
    assert two_train(tmp_path / "bad", 1, None, 5) == [1, 1]
    for rank in range(2):  # batch 5 is that of the second process at step 2
        told = (tmp_path / f"bad-{rank}" / "error").read_text()
        assert told == "FloatingPointError: loss became nan at step 2"


@pytest.mark.slow
def test_torchrun_starts_them(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from tests.training.test_loop_processes import train\n"
        f"train(Path({str(tmp_path / 'run')!r}))\n"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", script]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("hello from 0") == 1
    assert "hello from 1" not in done.stdout
    assert unlike(*(tmp_path / f"run-{rank}" / "model.safetensors" for rank in range(2))) == []
