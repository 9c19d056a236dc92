"""The training loop: what was killed goes on as if it had not been; the best is kept."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import load_file, save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from tests.training.toy import SCHEDULE, Batches, Net, evaluate, loss, unlike  # noqa: E402
from training.checkpoints import ResumeError, load_figures, load_state  # noqa: E402
from training.loop import Schedule, fit  # noqa: E402
from training.runtime import Runtime  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # a net this small only waits for other threads


def train(
    out: Path,
    batches: Batches | None = None,
    schedule: Schedule = SCHEDULE,
    runtime: Runtime | None = None,
) -> dict:
    torch.manual_seed(3)
    config = {"width": 6}
    return fit(Net(), batches or Batches(), loss, evaluate, schedule, out, config, runtime)


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
    for name in ("best.safetensors", "last.safetensors"):
        assert unlike(tmp_path / "whole" / name, tmp_path / "killed" / name) == []


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


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schedule": replace(SCHEDULE, steps=20)}, "steps 12, not 20"),
        ({"schedule": replace(SCHEDULE, lr=0.5)}, "lr 0.02, not 0.5"),
        ({"schedule": replace(SCHEDULE, accumulate=2)}, "batches a step 1, not 2"),
        ({"config": {"width": 9}}, "config {'width': 6}, not {'width': 9}"),
        ({"runtime": Runtime(bf16=True)}, "bf16 False, not True"),
    ],
)
@pytest.mark.parametrize("kill_at", [7, None])
def test_another_run_is_not_resumed(
    tmp_path: Path, change: dict, told: str, kill_at: int | None
) -> None:
    with pytest.raises(KeyboardInterrupt) if kill_at else nullcontext():
        train(tmp_path, Batches(kill_at))
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}
    same = {"schedule": SCHEDULE, "out": tmp_path, "config": {"width": 6}}
    with pytest.raises(ResumeError, match="choose another folder") as error:
        fit(Net(), Batches(), loss, evaluate, **(same | change))
    assert told in str(error.value)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*")} == before


def test_what_does_not_change_a_run_may_change(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Batches(7))
    more = replace(SCHEDULE, workers=1)
    fit(Net(), Batches(), loss, evaluate, more, tmp_path, {"width": 6}, Runtime(save_seconds=0))


def test_a_state_that_does_not_tell_its_run_is_resumed(tmp_path: Path) -> None:
    """As those of earlier versions are."""
    figures = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "old", Batches(7))
    last = tmp_path / "old" / "last.safetensors"
    best = load_figures(last.with_name("best.safetensors"))["loss"]
    save_file(load_file(last), last, {"state": json.dumps({"step": 6, "best": best})})
    assert train(tmp_path / "old") == figures
    assert unlike(tmp_path / "whole" / "last.safetensors", last) == []


def test_accumulated_gradients_are_those_of_the_joint_batch(tmp_path: Path) -> None:
    class Pairs(Batches):
        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            halves = [Batches()[2 * index], Batches()[2 * index + 1]]
            return tuple(torch.cat(part) for part in zip(*halves, strict=True))

    for name, batches, turns in (("joint", Pairs(), 1), ("two", Batches(), 2)):
        torch.manual_seed(3)
        net, schedule = Net(drop=0.0, norm=False), replace(SCHEDULE, accumulate=turns)
        fit(net, batches, loss, evaluate, schedule, tmp_path / name, {})
    joint, two = (load_file(tmp_path / name / "best.safetensors") for name in ("joint", "two"))
    for name, value in joint.items():
        torch.testing.assert_close(two[name], value)


def test_checkpoints_come_by_the_clock_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Batches(8), runtime=Runtime(save_seconds=0))
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".partial"]
    resumed = Batches()
    train(tmp_path, resumed)
    assert resumed.asked == [8, 9, 10, 11]


def test_mixed_precision_is_for_training_alone(tmp_path: Path) -> None:
    seen = []

    def typed(net: Net, batch: tuple[Tensor, Tensor]) -> Tensor:
        seen.append(net.score(batch[0]).dtype)
        return loss(net, batch)

    def judged(net: Net) -> dict[str, float]:
        seen.append(net.score(Batches()[0][0]).dtype)
        return evaluate(net)

    short = replace(SCHEDULE, steps=3)
    fit(Net(), Batches(), typed, judged, short, tmp_path, {}, Runtime(bf16=True))
    assert seen == [torch.bfloat16] * 3 + [torch.float32]
    assert {value.dtype for value in load_file(tmp_path / "best.safetensors").values()} == {
        torch.float32,
        torch.int64,
    }


def test_a_recipe_for_one_process_is_not_run_in_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="without torchrun"):
        train(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_compiled_it_learns_the_same(tmp_path: Path) -> None:
    for name in ("eager", "compiled"):
        torch.manual_seed(3)
        runtime, short = Runtime(compile=name == "compiled"), replace(SCHEDULE, steps=3)
        # No dropout: compiled, it draws other numbers. No batch norm: the gradient of a bias before
        # it is nothing but rounding, of which AdamW makes whole steps.
        fit(
            Net(drop=0.0, norm=False),
            Batches(),
            loss,
            evaluate,
            short,
            tmp_path / name,
            {},
            runtime,
        )
    eager, compiled = (
        load_file(tmp_path / name / "last.safetensors") for name in ("eager", "compiled")
    )
    assert eager.keys() == compiled.keys()
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_held_out_loss_that_is_no_number_stops_the_run(tmp_path: Path, bad: float) -> None:
    with pytest.raises(FloatingPointError, match="after step 3"):
        fit(Net(), Batches(), loss, lambda net: {"loss": bad}, SCHEDULE, tmp_path, {})


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


def test_without_a_terminal_a_line_now_and_then_tells_how_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "quick")
    assert "step 1/12" not in capsys.readouterr().out
    monkeypatch.setattr("training.journal.LINE_SECONDS", 0.0)
    train(tmp_path / "slow")
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if re.match(r"step \d+/12: loss [\d.]+, .* left", line)]
    assert len(told) == 12
    assert "best" not in told[2]
    assert "best" in told[3]


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
