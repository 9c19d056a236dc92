"""What a file does to the process that judges it is an answer, and costs no other file anything."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from avfake.isolation import IsolatedDetector
from avfake.types import AvfakeError, Prediction, Progress
from avfake.workers import Models


class Named:
    """A bundle that says what it is."""

    def to_dict(self) -> dict[str, str]:
        return {"name": "fragile"}


class Fragile:
    """Does what a file's name says."""

    bundle = Named()

    def predict(self, path: str, tell: Callable[[Progress], None]) -> Prediction:
        if path == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if path == "sleep":
            time.sleep(600)
        if path == "take":
            taken = bytearray(b"x") * (1 << 30)  # written to, so that it is resident
            time.sleep(600 * len(taken))
        tell(Progress("faces", 0.5))
        return Prediction(path, "ok", logit=float(os.getpid()), verdict="uncertain")


def damaged() -> Any:
    raise AvfakeError("bundle_damaged", "The bundle is damaged.")


def crash(detector: Any) -> None:
    os._exit(7)


def fail(detector: Any) -> None:
    raise AvfakeError("nothing_to_mark", "There is nothing to mark.")


def name(more: str, detector: Any) -> str:
    return type(detector).__name__ + more


def load_fragile() -> Any:
    return Fragile()


def fragile(**more: Any) -> IsolatedDetector:
    return IsolatedDetector(load_fragile, **{"timeout": 60.0, **more})


@pytest.mark.parametrize(
    ("what", "reason", "said"),
    [
        ("crash", "worker_crashed", "crash crashed its worker (SIGSEGV)."),
        ("sleep", "timeout", "sleep took more than 1 s."),
        ("take", "out_of_memory", "take took more than 0.5 GB of memory."),
    ],
)
def test_a_fault_is_an_answer_and_the_next_file_has_a_new_process(
    what: str, reason: str, said: str
) -> None:
    with fragile(timeout=1.0 if what == "sleep" else 60.0, memory=1 << 29) as detector:
        first = detector.predict("a.mp4")
        lost = detector.predict(what)
        last = detector.predict("b.mp4")
    assert (lost.status, lost.reason, lost.message) == ("error", reason, said)
    assert lost.fake_probability is None
    assert lost.bundle == {"name": "fragile"}
    assert first.status == last.status == "ok"
    assert first.logit != last.logit


def test_one_process_judges_all_files_and_ends_with_the_detector() -> None:
    told: list[Progress] = []
    with fragile(hear=told.append) as detector:
        first, second = (detector.predict(path) for path in ("a.mp4", "b.mp4"))
    assert first.logit is not None
    assert first.logit == second.logit
    assert told == [Progress("faces", 0.5)] * 2
    assert not psutil.pid_exists(int(first.logit))


def test_what_is_asked_of_the_detector_is_answered_or_raised() -> None:
    with fragile() as detector:
        assert detector.ask(partial(name, "!"), "a.mp4") == "Fragile!"
        with pytest.raises(AvfakeError, match="nothing to mark") as raised:
            detector.ask(fail, "a.mp4")
        assert raised.value.reason == "nothing_to_mark"
        with pytest.raises(AvfakeError, match="ended its worker with exit status 7") as lost:
            detector.ask(crash, Path("folder/a.mp4"))
        assert lost.value.reason == "worker_exited"
        assert str(lost.value).startswith("a.mp4 ")
        assert detector.ask(partial(name, "?"), "a.mp4") == "Fragile?"


def test_models_that_cannot_be_loaded_are_told() -> None:
    with (
        pytest.raises(AvfakeError, match="is damaged"),
        IsolatedDetector(damaged, 60.0) as detector,
    ):
        detector.predict("a.mp4")


def test_it_answers_as_the_detector_does(sample_path: Path, sample_prediction: Prediction) -> None:
    with IsolatedDetector(Models(threads=1), 60.0) as detector:
        answer = detector.predict(sample_path)
    assert answer.fake_probability == pytest.approx(sample_prediction.fake_probability, abs=1e-6)
    assert answer.branches.keys() == sample_prediction.branches.keys()
