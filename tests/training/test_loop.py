"""The training loop: what was killed goes on as if it had not been; the best is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import load_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from training.loop import Schedule, fit, load_figures, load_state  # noqa: E402

SCHEDULE = Schedule(steps=12, lr=0.02, warmup=3, evaluate_every=3, ema=0.8, workers=0)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # a net this small only waits for other threads


class Net(nn.Module):
    """With all that a resumed run could get wrong: dropout, running statistics, bare scalars."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout(0.3), nn.Linear(width, 1)
        )
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, values: Tensor) -> Tensor:
        return self.layers(values)[:, 0] * self.scale


class Batches(torch.utils.data.Dataset):
    """Batch `i` is drawn from `i`; reaching the batch `kill_at` ends the run."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index == self.kill_at:
            raise KeyboardInterrupt
        self.asked.append(index)
        draw = torch.Generator().manual_seed(index)
        values = torch.randn(8, 4, generator=draw)
        return values, values.sum(1)


def loss(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (net(batch[0]) - batch[1]).square().mean()


def evaluate(net: nn.Module) -> dict[str, float]:
    assert not net.training
    with torch.no_grad():
        return {"loss": float(loss(net, Batches()[999])), "twice": 2.0}


def train(out: Path, batches: Batches | None = None, schedule: Schedule = SCHEDULE) -> dict:
    torch.manual_seed(3)
    return fit(Net(), batches or Batches(), loss, evaluate, schedule, out, {"width": 6})


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_it_learns(tmp_path: Path) -> None:
    steps = Schedule(steps=100, lr=0.1, warmup=10, evaluate_every=50, ema=0.9, workers=0)
    figures = train(tmp_path, schedule=steps)
    untrained = evaluate(Net().eval())["loss"]
    assert figures["loss"] < 0.4 * untrained


@pytest.mark.parametrize("kill_at", [4, 6, 7, 11])
def test_a_killed_run_resumes_to_the_very_same_weights(tmp_path: Path, kill_at: int) -> None:
    figures = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", Batches(kill_at))
    torch.rand(17)  # the new process's generator stands elsewhere
    resumed = Batches()
    assert train(tmp_path / "killed", resumed) == figures
    assert resumed.asked == list(range(kill_at // 3 * 3, 12))
    for name in ("best", "last"):
        whole, again = (
            load_file(tmp_path / run / f"{name}.safetensors") for run in ("whole", "killed")
        )
        assert set(whole) == set(again)
        assert [key for key in whole if not torch.equal(whole[key], again[key])] == []


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    figures = train(tmp_path)
    idle = Batches()
    assert train(tmp_path, idle) == figures
    assert idle.asked == []


def test_the_best_weights_by_held_out_loss_are_kept(tmp_path: Path) -> None:
    """Held-out loss falls and rises again: the weights are those of its lowest point."""
    told = iter([3.0, 1.0, 2.0, 2.5])
    seen: list[dict[str, Tensor]] = []

    def scripted(net: nn.Module) -> dict[str, float]:
        seen.append({name: value.clone() for name, value in net.state_dict().items()})
        return {"loss": next(told), "number": float(len(seen))}

    figures = fit(Net(), Batches(), loss, scripted, SCHEDULE, tmp_path, {"width": 6})
    assert figures == {"loss": 1.0, "number": 2.0}
    state, config = load_state(tmp_path / "best.safetensors")
    assert config == {"width": 6}
    assert set(state) == set(seen[1])
    assert all(torch.equal(state[name], seen[1][name]) for name in state)
    Net(**config).load_state_dict(state)


def test_a_resumed_run_remembers_what_was_best(tmp_path: Path) -> None:
    def first(net: nn.Module) -> dict[str, float]:
        return {"loss": 0.5}

    def later(net: nn.Module) -> dict[str, float]:
        return {"loss": 0.9}

    with pytest.raises(KeyboardInterrupt):
        fit(Net(), Batches(5), loss, first, SCHEDULE, tmp_path, {})
    assert fit(Net(), Batches(), loss, later, SCHEDULE, tmp_path, {}) == {"loss": 0.5}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, bad: float) -> None:
    def broken(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss(net, batch) * (bad if torch.equal(batch[1], Batches()[5][1]) else 1.0)

    with pytest.raises(FloatingPointError, match="step 5"):
        fit(Net(), Batches(), broken, evaluate, SCHEDULE, tmp_path, {})


def test_the_averaged_model_follows_with_delay(tmp_path: Path) -> None:
    """At the end it lies nearer to the weights than the start does, and is not them."""
    torch.manual_seed(3)
    start = Net().state_dict()["layers.0.weight"]
    train(tmp_path)
    last = load_file(tmp_path / "last.safetensors")
    model, averaged = (last[f"{part}.layers.0.weight"] for part in ("model", "averaged"))
    assert 0 < (model - averaged).norm() < (model - start).norm()


def test_the_log_tells_the_run(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Batches(7))
    train(tmp_path)
    log = rows(tmp_path)
    assert log[0]["schedule"]["steps"] == 12
    assert log[0]["config"] == {"width": 6}
    assert [row["step"] for row in log if "step" in row] == [3, 6, 9, 12]
    assert {"resumed_at": 6} in log
    assert all(row["twice"] == 2.0 for row in log if "step" in row)
    assert load_figures(tmp_path / "best.safetensors")["loss"] == min(
        row["loss"] for row in log if "loss" in row
    )


def test_a_new_run_in_an_old_folder_starts_a_new_log(tmp_path: Path) -> None:
    train(tmp_path)
    (tmp_path / "last.safetensors").unlink()
    train(tmp_path)
    assert len([row for row in rows(tmp_path) if "schedule" in row]) == 1


def test_the_learning_rate_warms_up_and_cools_down() -> None:
    schedule = Schedule(steps=110, lr=1.0, warmup=10)
    rates = [schedule.lr_at(step) for step in range(110)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.5)
    assert rates[109] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)
