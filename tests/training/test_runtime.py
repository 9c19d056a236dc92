"""What recipes are told about device, precision and processes, and what becomes of it."""

from __future__ import annotations

import argparse

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from training.checkpoints import ResumeError  # noqa: E402
from training.runtime import Runtime, device_of  # noqa: E402


def runtime(*words: str) -> Runtime:
    parser = argparse.ArgumentParser()
    Runtime.add_arguments(parser)
    return Runtime.from_options(parser.parse_args(words))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def cuda(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)


def test_the_device_is_picked_by_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda(False, monkeypatch)
    assert runtime() == Runtime("cpu")
    cuda(True, monkeypatch)
    assert runtime() == Runtime("cuda:0")
    assert runtime("--device", "cpu") == Runtime("cpu")


def test_options_say_how_to_compute() -> None:
    words = "--device cpu --bf16 --compile --threads 3 --save-seconds 7"
    expected = Runtime("cpu", bf16=True, compile=True, threads=3, save_seconds=7.0)
    assert runtime(*words.split()) == expected


@pytest.mark.parametrize(("name", "told"), [("cuda", "no CUDA"), ("tpu", "none of auto")])
def test_a_device_that_is_not_there_is_refused(
    name: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cuda(False, monkeypatch)
    with pytest.raises(SystemExit) as error:
        runtime("--device", name)
    assert error.value.code == 2
    assert told in capsys.readouterr().err


def test_torchrun_says_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    cuda(True, monkeypatch)
    assert runtime() == Runtime("cuda:1", rank=5, world=8)
    assert not runtime().chief


def test_a_batch_is_moved_whole() -> None:
    batch = {"sound": torch.ones(2), "rest": ([torch.zeros(1)], "name", 3)}
    moved = Runtime("meta").move(batch)
    assert moved["sound"].device.type == "meta"
    assert moved["rest"][0][0].device.type == "meta"
    assert moved["rest"][1:] == ("name", 3)
    assert device_of(torch.nn.Linear(1, 1, device="meta")).type == "meta"


def test_a_refusal_to_resume_is_one_sentence() -> None:
    with pytest.raises(SystemExit, match=r"^error: of another run$"), Runtime().started():
        raise ResumeError("of another run")


def test_only_the_first_process_prints(capsys: pytest.CaptureFixture[str]) -> None:
    for rank in range(2):
        with Runtime(rank=rank).started():
            print("process", rank)
    assert capsys.readouterr().out == "process 0\n"
