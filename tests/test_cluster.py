"""On a cluster a file may lose its process, its actor or its node, and still has one row."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import psutil
import pytest

import avfake.cluster
from avfake.cli import main
from avfake.cluster import LOSSES, judge_on_cluster
from avfake.types import AvfakeError, Prediction
from avfake.workers import Job, judge_each
from tests.clips import portrait
from tests.judges import Placed, damaged
from tests.nodes import Nodes, kill, lose_head, raylet, three_nodes
from tests.processes import gone


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with three_nodes() as nodes:
        yield nodes


def told(prediction: Prediction) -> tuple[Any, ...]:
    longest = prediction.seconds.get("longest")
    return prediction.status, prediction.reason, prediction.message, prediction.warnings, longest


def test_faults_are_those_of_one_machine_and_a_lost_actor_is_told(
    nodes: Nodes, tmp_path: Path
) -> None:
    once = tmp_path / "once.mp4"
    names = ["actor.mp4", "a.mp4", "exit.mp4", "sleep.mp4", "b.mp4", str(once), "c.mp4"]

    def jobs() -> Iterator[Job]:
        once.with_suffix(".seen").unlink(missing_ok=True)
        return (Job(name, longest=7.0, timeout=1.0) for name in names)

    near = {
        str(job.path): told(answer)
        for job, answer in judge_each(itertools.islice(jobs(), 1, None), Placed, 1, attempts=2)
    }
    said: list[str] = []
    answers = [
        (str(job.path), answer)
        for job, answer in judge_on_cluster(
            jobs(), Placed, 2, attempts=2, address=nodes.address, tell=said.append
        )
    ]
    assert sorted(path for path, _ in answers) == sorted(names)
    assert all(answer.path == path for path, answer in answers)
    far = {path: told(answer) for path, answer in answers}
    text = f"actor.mp4 lost its worker on the cluster {LOSSES} times."
    assert far.pop("actor.mp4") == ("error", "worker_lost", text, (), None)
    assert len(said) == LOSSES
    assert far == near
    assert Counter(reason for _, reason, *_ in near.values()) == {
        None: 4,
        "worker_exited": 1,
        "timeout": 1,
    }


def test_a_lost_node_loses_and_doubles_nothing(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(avfake.cluster, "TELL_EVERY", 1.0)
    names: list[str] = []
    said: list[str] = []
    seen: list[str] = []
    at: Counter[float] = Counter()
    lost, new = sorted(nodes.worker_nodes, key=raylet)[0], None
    dead = raylet(lost)

    def jobs() -> Iterator[Job]:
        # Until the new node has had its share: how long it takes to start is the machine's affair.
        while len(names) < 120 or ((new is None or not at[raylet(new)]) and len(names) < 3000):
            names.append(f"slow-{len(names)}.mp4")
            yield Job(names[-1])

    answers = judge_on_cluster(
        jobs(), Placed, 4, attempts=2, address=nodes.address, tell=said.append
    )
    for job, answer in answers:
        assert answer.status == "ok"
        seen.append(str(job.path))
        at[answer.seconds["raylet"]] += 1
        if dead is not None and len(at) == 2 and at[dead] >= 3:
            kill(nodes, lost)
            dead = None
        if new is None and any("2 of 4 workers wait for room" in line for line in said):
            new = nodes.add_node(num_cpus=2)
    assert sorted(seen) == sorted(names)
    assert any("was lost" in line for line in said)
    assert new is not None
    assert at[raylet(new)] > 0  # the places of the lost workers were filled again
    assert len(at) == 3


def test_jobs_are_asked_for_when_an_actor_is_free_and_leaving_ends_it(nodes: Nodes) -> None:
    asked = []

    def jobs() -> Iterator[Job]:
        for index in range(100):
            asked.append(index)
            yield Job(f"slow-{index}.mp4")

    answers = judge_on_cluster(jobs(), Placed, 2, address=nodes.address)
    for count in range(1, 6):
        _, answer = next(answers)
        assert len(asked) <= count + 2
    answers.close()
    assert gone(int(answer.seconds["actor"]))
    assert gone(int(answer.seconds["pid"]))


def test_what_keeps_workers_from_starting_is_told(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AvfakeError, match="damaged") as error:
        list(judge_on_cluster([Job("a.mp4")], damaged, 1, address=nodes.address))
    assert error.value.reason == "bundle_damaged"
    monkeypatch.setattr(avfake.cluster, "__version__", "99")
    with pytest.raises(AvfakeError, match="99 was asked for") as error:
        list(judge_on_cluster([Job("a.mp4")], Placed, 1, address=nodes.address))
    assert error.value.reason == "other_version"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_an_address_where_no_cluster_is(nodes: Nodes, address: str) -> None:
    started = time.monotonic()
    with pytest.raises(AvfakeError, match=address) as error:
        list(judge_on_cluster([Job("a.mp4")], Placed, 1, address=address))
    assert error.value.reason == "no_cluster"
    assert time.monotonic() - started < 20


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AvfakeError, match=r"avfake\[scale\]") as error:
        list(judge_on_cluster([Job("a.mp4")], Placed, 1))
    assert error.value.reason == "needs_extra"


# The command.


def batch(*arguments: str, **more: Any) -> subprocess.Popen[bytes]:
    """`avfake batch`, as a process that can be killed."""
    code = "import sys; from avfake.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen([sys.executable, "-c", code, "batch", *arguments], **more)


def heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def rows(out: Path) -> list[dict[str, Any]]:
    left_out = ("seconds", "settings")
    found = [json.loads(line) for line in out.read_text().splitlines()]
    found = [{k: v for k, v in row.items() if k not in left_out} for row in found]
    return sorted(found, key=lambda row: str(row["path"]))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(24):
        picture = cv2.convertScaleAbs(portrait(), alpha=0.7 + 0.01 * index)
        cv2.imwrite(str(folder / f"{index}.jpg"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    (folder / "broken.mp4").write_text("no clip")
    return folder


def test_a_killed_run_goes_on_and_ends_with_the_rows_of_one_machine(
    nodes: Nodes, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures.parent)  # a relative name holds on a node, too
    near, far = tmp_path / "near.jsonl", tmp_path / "far.jsonl"
    assert main(["batch", pictures.name, "--out", str(near)]) == 1
    ray = ["--engine", "ray", "--address", nodes.address, "--workers", "2"]
    arguments = [pictures.name, "--out", str(far), *ray]
    with batch(*arguments) as run:
        while not far.exists() or far.read_bytes().count(b"\n") < 3:
            assert run.poll() is None
            time.sleep(0.01)
        run.kill()
    assert 3 <= far.read_bytes().count(b"\n") < 25
    with batch(*arguments, "--resume") as run:
        assert run.wait(timeout=120) == 1
    assert rows(far) == rows(near)


def test_without_its_head_a_run_ends_and_goes_on_elsewhere(tmp_path: Path) -> None:
    """All workers lose theirs, one its node, too. Ray itself would end the program, without a word
    of its own, after a minute."""
    code = """
import sys, avfake.cluster, avfake.workers
from avfake.cli import main
from tests.judges import Slow
avfake.workers.Models, avfake.cluster._LOOK_EVERY, avfake.cluster._HEADLESS = Slow, 0.5, 2.0
sys.exit(main(sys.argv[1:]))
"""
    names, out = [f"slow-{number}.mp4" for number in range(100)], tmp_path / "out.jsonl"
    listed = tmp_path / "names.txt"
    listed.write_text("\n".join(names))
    command = [sys.executable, "-c", code, "batch", "--list", str(listed), "--out", str(out)]
    with three_nodes((1, 1, 1)) as nodes:
        ray = ["--engine", "ray", "--address", nodes.address, "--workers", "3"]
        with subprocess.Popen([*command, *ray], stderr=subprocess.PIPE, text=True) as run:
            while not out.exists() or out.read_bytes().count(b"\n") < 20:
                assert run.poll() is None
                time.sleep(0.01)
            lose_head(nodes)
            _, said = run.communicate(timeout=120)
    assert run.returncode == 1, said
    last = said.splitlines()[-1]
    text = r"avfake: The Ray cluster's head, [\d.:]+, is gone\. The rows before are whole; .*"
    assert re.fullmatch(rf"{text}--resume goes on\. \[cluster_lost\]", last)
    assert "Traceback" not in said
    before = out.read_text()
    assert 20 <= len(before.splitlines()) < len(names)
    done = subprocess.run([*command, "--workers", "4", "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert out.read_text().startswith(before)
    assert sorted(row["path"] for row in rows(out)) == sorted(names)


@pytest.mark.slow  # Ray takes its time before it takes a node for lost
def test_without_the_node_that_it_runs_on_a_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avfake.cluster, "_LOOK_EVERY", 0.5)
    with three_nodes((0, 1, 1)) as nodes:
        import ray  # not before: it reads the cluster's token then

        jobs = (Job(f"slow-{number}.mp4") for number in itertools.count())
        answers = judge_on_cluster(jobs, Placed, 2, address=nodes.address)
        _, answer = next(answers)
        assert answer.status == "ok"
        own = ray.get_runtime_context().get_node_id()
        (lost,) = (node for node in nodes.list_all_nodes() if node.node_id == own)
        lost.all_processes["raylet"][0].process.kill()
        with pytest.raises(AvfakeError, match="the node that this program runs on") as error:
            list(answers)
    assert error.value.reason == "cluster_lost"


def test_a_ray_of_ones_own_is_quiet_and_leaves_nothing(pictures: Path, tmp_path: Path) -> None:
    """Stopped by Ctrl-C. Run in a folder whose files Python must not import."""
    (tmp_path / "psutil.py").write_text("raise SystemExit('a stranger was imported')")
    out = tmp_path / "out.jsonl"
    before = set(Path("/tmp").glob("avfake-*"))
    with batch(
        *(str(pictures), "--out", str(out), "--engine", "ray", "--workers", "2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=os.environ | {"PYTHONSAFEPATH": "1"},  # as for the command that pip installs
        preexec_fn=heed_interrupts,
    ) as run:
        while not out.exists() or out.read_bytes().count(b"\n") < 3:
            assert run.poll() is None
            time.sleep(0.01)
        processes = psutil.Process(run.pid).children(recursive=True)
        assert any("raylet" in process.name() for process in processes)
        run.send_signal(signal.SIGINT)
        said, complained = run.communicate(timeout=60)
    assert run.returncode == 130
    assert said.decode().splitlines()[1:] == []  # the line of the models
    lines = complained.decode().splitlines()
    assert lines[-1] == "stopped; the same command with --resume goes on"
    assert all("/25" in line for line in lines[:-1]), lines
    assert all(gone(process.pid) for process in processes)
    assert set(Path("/tmp").glob("avfake-*")) <= before
