"""Whatever an item does to its worker process has a name, and the next item has a process."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from avfake.process import FAULTS, Fault, Worker
from avfake.types import AvfakeError
from tests.processes import gone

MEMORY = 300 << 20


def acting() -> Callable[[str], Any]:
    return act


def act(what: str) -> Any:
    if what == "segfault":
        ctypes.string_at(0)
    elif what == "abort":
        os.abort()
    elif what == "exit":
        os._exit(3)
    elif what == "leave":
        os._exit(0)
    elif what == "sleep":
        time.sleep(600)
    elif what == "hold the lock":  # sleeps in C, with Python's lock
        ctypes.PyDLL(None).sleep(600)
    elif what == "allocate":
        held = []
        while True:
            held.append(b"x" * (1 << 20))
    elif what == "print":
        for _ in range(1 << 10):
            os.write(2, b"x" * (1 << 20))
    elif what == "raise":
        raise AvfakeError("not_media", "That is no film.")
    elif what == "raise what does not travel":
        raise Particular("film", "none")
    elif what == "answer what cannot leave":
        return lambda: None
    elif what == "chatter":
        os.write(1, b"x" * (1 << 20))
    elif what == "log":
        logging.getLogger("avfake").warning("said by the worker")
    elif what == "die later":
        signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    return what, os.getpid()


@pytest.fixture
def worker() -> Iterator[Worker[str, Any]]:
    worker: Worker[str, Any] = Worker(acting, MEMORY)
    yield worker
    worker.stop()


def test_a_process_answers_one_item_after_the_other(worker: Worker[str, Any]) -> None:
    first, second = worker.call("a", 60), worker.call("b", 60)
    assert (first[0], second[0]) == ("a", "b")
    assert first[1] == second[1] != os.getpid()


@pytest.mark.parametrize(
    ("what", "reason", "text"),
    [
        ("segfault", "worker_crashed", "SIGSEGV"),
        ("abort", "worker_crashed", "SIGABRT"),
        ("exit", "worker_exited", "exit status 3"),
        ("leave", "worker_exited", "exit status 0"),
        ("sleep", "timeout", "more than 1 s"),
        ("hold the lock", "timeout", "more than 1 s"),
        ("allocate", "out_of_memory", "more than 0.293 GB of memory"),
        ("print", "too_much_output", "more than 16 MB"),
    ],
)
def test_each_fault_has_its_reason(
    worker: Worker[str, Any], what: str, reason: str, text: str
) -> None:
    before = worker.call("a", 60)
    with pytest.raises(Fault, match=text) as fault:
        worker.call(what, 30.0 if what in ("allocate", "print") else 1.0)
    assert fault.value.reason == reason
    assert reason in FAULTS
    assert gone(before[1])
    assert worker.call("b", 60)[0] == "b"


def test_what_is_raised_comes_back_and_costs_no_process(worker: Worker[str, Any]) -> None:
    before = worker.call("a", 60)
    with pytest.raises(AvfakeError, match="no film") as error:
        worker.call("raise", 60)
    assert error.value.reason == "not_media"
    with pytest.raises(RuntimeError, match="cannot leave its process"):
        worker.call("answer what cannot leave", 60)
    assert worker.call("b", 60)[1] == before[1]


def test_output_is_counted_item_by_item(worker: Worker[str, Any]) -> None:
    assert all(worker.call("chatter", 60)[0] == "chatter" for _ in range(20))


def test_what_a_worker_prints_stays_away_but_what_it_logs_is_seen(
    worker: Worker[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    worker.call("chatter", 60)
    worker.call("log", 60)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "WARNING avfake: said by the worker\n"


def test_a_process_that_dies_between_two_items_costs_neither(worker: Worker[str, Any]) -> None:
    before = worker.call("die later", 60)
    assert gone(before[1])
    assert worker.call("a", 60)[0] == "a"


def test_a_process_that_dies_in_the_midst_of_its_answer_costs_that_item() -> None:
    worker: Worker[str, Any] = Worker(breaking_off, hear=print)
    try:
        with pytest.raises(Fault, match="exit status 3") as fault:
            worker.call("a", 60)
        assert fault.value.reason == "worker_exited"
    finally:
        worker.stop()


def breaking_off(tell: Callable[[Any], None]) -> Callable[[str], Any]:
    (pipe,) = (cell.cell_contents for cell in tell.__closure__ or ())

    def answer(item: str) -> Any:
        os.write(pipe.fileno(), struct.pack("!i", 1000) + b"half")  # of a thousand bytes
        os._exit(3)

    return answer


def test_the_clock_starts_when_the_process_takes_the_item_on() -> None:
    worker: Worker[str, Any] = Worker(slow_to_start)
    try:
        assert worker.call("a", 0.5)[0] == "a"
    finally:
        worker.stop()


def slow_to_start() -> Callable[[str], Any]:
    time.sleep(1.5)
    return act


def test_what_the_work_tells_on_its_way_is_heard() -> None:
    heard: list[int] = []
    worker: Worker[int, str] = Worker(counting, hear=heard.append)
    try:
        assert worker.call(3, 60) == "counted"
        assert worker.call(2, 60) == "counted"
    finally:
        worker.stop()
    assert heard == [0, 1, 2, 0, 1]


def test_an_item_that_was_given_up_does_not_answer_for_the_next() -> None:
    """As where its progress cannot be printed any more."""

    def hear(number: int) -> None:
        if number == 7:
            raise BrokenPipeError

    worker: Worker[int, int] = Worker(doubling, hear=hear)
    try:
        before = psutil.Process().children()
        with pytest.raises(BrokenPipeError):
            worker.call(7, 60)
        assert psutil.Process().children() == before  # nor does it go on
        assert worker.call(8, 60) == 16
    finally:
        worker.stop()


def doubling(tell: Callable[[int], None]) -> Callable[[int], int]:
    def double(number: int) -> int:
        tell(number)
        return 2 * number

    return double


class Particular(Exception):
    """Cannot be made anew from its text alone, which is how exceptions travel."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


def test_an_exception_that_does_not_travel_is_told_and_costs_its_own_item(
    worker: Worker[str, Any],
) -> None:
    with pytest.raises(RuntimeError, match="An answer cannot be read"):
        worker.call("raise what does not travel", 60)
    assert worker.call("a", 60)[0] == "a"


def counting(tell: Callable[[int], None]) -> Callable[[int], str]:
    def count(number: int) -> str:
        for index in range(number):
            tell(index)
        return "counted"

    return count


def test_a_worker_imports_nothing_from_the_folder_it_was_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: Worker[str, Any]
) -> None:
    for name in ("json", "struct", "multiprocessing", "tempfile"):
        (tmp_path / f"{name}.py").write_text("import os\nos._exit(66)\n")
    monkeypatch.chdir(tmp_path)
    assert worker.call("a", 60)[0] == "a"
    assert "PYTHONSAFEPATH" not in os.environ


CALL = """
from avfake.process import Worker
from tests.test_process import acting

worker = Worker(acting)
print(worker.call("a", 60)[0])
worker.stop()
"""
HASTY = """
import os, signal, sys
if "spawn_main" in "".join(sys.orig_argv):
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no such masks")
def test_ctrl_c_while_a_process_starts_is_not_for_it(repository: Path, tmp_path: Path) -> None:
    """A terminal sends it to all processes of a command, whether they have begun or not."""
    (tmp_path / "sitecustomize.py").write_text(HASTY)
    done = subprocess.run(
        [sys.executable, "-c", CALL],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(repository)))},
        # What runs the tests in the background may have them ignore it, and all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\n", "")


def test_windows_is_told_in_a_sentence(
    worker: Worker[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(AvfakeError, match="need Linux or macOS") as raised:
        worker.call("a", 60)
    assert raised.value.reason == "no_worker"


def test_a_process_that_cannot_be_started_is_told_in_a_sentence(worker: Worker[str, Any]) -> None:
    """As where an account may have no more processes or open files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(number) for number in os.listdir("/dev/fd")}
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(used) + 2, before[1]))
    try:
        with pytest.raises(AvfakeError, match="started: Too many open files") as raised:
            worker.call("a", 60)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert raised.value.reason == "no_worker"
    assert worker.call("a", 60)[0] == "a"


def test_the_clock_is_kept_where_nobody_tells_the_memory(
    worker: Worker[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.call("a", 60)

    def hidden(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "memory_info", hidden)
    worker.start("sleep", 0.2)
    until = time.monotonic() + 60
    while not worker.done():
        assert time.monotonic() < until
        time.sleep(0.01)
    with pytest.raises(Fault, match=r"more than 0\.2 s"):
        worker.result()


def test_a_setup_that_fails_is_told_and_so_is_one_that_dies() -> None:
    for setup, reason in ((damaged, "bundle_damaged"), (partial(os._exit, 4), "no_worker")):
        worker: Worker[str, Any] = Worker(setup)
        with pytest.raises(AvfakeError) as error:
            worker.call("a", 60)
        assert error.value.reason == reason
        worker.stop()


def damaged() -> Callable[[str], Any]:
    raise AvfakeError("bundle_damaged", "The bundle is damaged.")


def test_nothing_is_left_of_a_worker_that_was_stopped() -> None:
    me = psutil.Process()
    handles, kept = [], None
    for _ in range(4):
        worker: Worker[str, Any] = Worker(acting)
        kept = worker.call("a", 60)[1]
        worker.stop()
        worker.stop()
        assert gone(kept)
        handles.append(me.num_fds())
    assert handles[1:] == handles[:-1]


ORPHAN = """
from avfake.process import Worker
from tests.test_process import acting

if __name__ == "__main__":
    worker = Worker(acting)
    print(worker.call("a", 60)[1], flush=True)
    worker.call("sleep", 600)
"""


def test_a_worker_does_not_outlive_who_started_it(repository: Path, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(ORPHAN)
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(repository)},
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.3)  # it is asleep by now
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pid)
