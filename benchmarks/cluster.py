"""How throughput grows with workers on a Ray cluster, and what the program that asks can bear.

    python -m benchmarks.cluster [--nodes 2] [--workers 1,2,4,8,16,32] [--clip 1080p.mp4] [--rows N]

All in one run, on this machine, whose nodes are processes:

- files a second with the real detector, by one process in turn, by local workers and by actors;
- the same with a judge that only waits, which shows what scheduling costs when there are more
  workers than this machine has cores: the more so, as they all share its cores;
- answers a second that one program can hand out and collect, and rows a second that it can write;
- memory of that program for a list of a million names and as many rows to go on from.

From these follow the hours that a large collection takes: see `hours`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil

from avfake.batch import run
from avfake.cluster import judge_on_cluster
from avfake.scores import Scores
from avfake.sources import Files
from avfake.types import Prediction
from avfake.workers import Job, Judge, Models, cores, judge_each

REPOSITORY = Path(__file__).parents[1]
WAIT = 0.2  # seconds a file of the judge that waits
Answers = Generator[tuple[Job, Prediction], None, None]
Engine = Callable[[Iterable[Job], Callable[[], Judge], int], Answers]


@dataclass(frozen=True)
class Waiting:
    """A judge to which a file costs `seconds` and no processor."""

    seconds: float

    def __call__(self) -> Judge:
        return self

    def predict(self, path: str, longest: float | None = None) -> Prediction:
        time.sleep(self.seconds)
        told = {"pid": float(os.getpid())}
        return Prediction(path, "ok", logit=0.0, verdict="uncertain", seconds=told)


def rate(engine: Engine, load: Callable[[], Judge], workers: int, path: str, span: float) -> float:
    """Answers a second over `span` seconds, once every worker may have given its first."""
    jobs = (Job(path, timeout=600.0) for _ in itertools.count())
    answers = engine(jobs, load, workers)
    try:
        seen: set[float] = set()
        for count, (_, answer) in enumerate(answers, 1):
            assert answer.status == "ok", answer
            seen.add(answer.seconds.get("pid", count))
            if len(seen) >= workers:
                break
        started = now = time.perf_counter()
        count = 0
        for _ in answers:
            count += 1
            now = time.perf_counter()
            if now - started > span:
                break
        return count / (now - started)
    finally:
        answers.close()


def work(clip: str, times: int = 3) -> float:
    """Seconds of processor that a file takes, whoever else uses it: what machines must have."""
    judge = Models(threads=1)()
    judge.predict(clip)
    started = time.process_time()
    for _ in range(times):
        judge.predict(clip)
    return (time.process_time() - started) / times


@contextmanager
def cluster(nodes: int, workers: int) -> Iterator[str]:
    """The address of `nodes` nodes on this machine that have room for `workers` together."""
    os.environ |= {
        "PYTHONPATH": str(REPOSITORY),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    from ray.cluster_utils import Cluster

    started = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        for _ in range(nodes):
            started.add_node(num_cpus=-(-workers // nodes))
        yield started.address
    finally:
        started.shutdown()


def throughput(nodes: int, counts: list[int], clip: str, span: float) -> None:
    print(f"detector: {work(clip):.2f} s of one core a file")
    alone = rate(judge_each, Models(threads=1), 1, clip, span)
    print(f"detector, 1 local worker: {alone:.2f} files a second, {1 / alone:.2f} s a file = 1.00")
    real = [count for count in counts if 1 < count <= cores()]
    for count in real:
        found = rate(judge_each, Models(threads=1), count, clip, span)
        print(f"detector, {count} local workers: {found / alone:.2f}")
    with cluster(nodes, max(counts)) as address:
        far = partial(judge_on_cluster, address=address)
        for count in [1, *real]:
            found = rate(far, Models(threads=1), count, clip, span)
            print(f"detector, {count} of {nodes} nodes: {found / alone:.2f}", flush=True)
        for count in counts:
            found = rate(far, Waiting(WAIT), count, "a", span)
            share = found * WAIT / count
            print(
                f"waiting {WAIT:g} s, {count} workers: {found:.1f} a second, "
                f"{share:.0%} of what {count} could",
                flush=True,
            )
        found = rate(far, Waiting(0.0), min(4, max(counts)), "a", span)
        print(f"waiting 0 s: {found:.0f} answers a second handed out and collected", flush=True)


def writing(clip: str, count: int) -> None:
    """What rows and names cost the program that asks."""
    answer = Models(threads=1)().predict(clip)

    def engine(jobs: Iterable[Job]) -> Answers:
        for job in jobs:
            yield job, replace(answer, path=os.fspath(job.path))

    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "list.txt")
        with listed.open("w") as file:
            file.writelines(f"s3://bucket/part-{n // 1000}/clip-{n}.mp4\n" for n in range(count))
        for brief in (False, True):
            out = os.path.join(folder, f"brief-{brief}", "")
            for resume in (False, True):
                started = time.perf_counter()
                with (
                    Files([], listed.open("rb")) as files,
                    Scores(out, answer.bundle["sha256"], {}, resume) as scores,
                ):
                    run(files, scores, engine, answer.bundle, brief=brief)
                spent = time.perf_counter() - started
                what = "kept" if resume else "written"
                size = sum(file.stat().st_size for file in Path(out).iterdir())
                kind = "brief rows" if brief else "rows"
                print(
                    f"{count} {kind} {what}: {count / spent:.0f} a second, {size / count:.0f} "
                    "bytes a row",
                    flush=True,
                )


def remembering(count: int) -> None:
    """What knowing `count` names costs the program that asks, so that none is judged twice."""
    process = psutil.Process()
    with (
        tempfile.TemporaryDirectory() as folder,
        Scores(os.path.join(folder, "out"), "", {}) as kept,
    ):
        before, started = process.memory_info().rss, time.perf_counter()
        for number in range(count):
            kept.claim(f"s3://bucket/part-{number // 1000}/clip-{number}.mp4")
        grown, spent = process.memory_info().rss - before, time.perf_counter() - started
    print(f"{count} names known: {grown / count:.0f} bytes each, {count / spent:.0f} a second")


def hours(clips: int, seconds: float, machines: int, cores: int, share: float) -> float:
    """Hours for `clips` of `seconds` each on one core, where `share` of the cores is busy."""
    return clips * seconds / (machines * cores * share) / 3600


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--workers", default="1,2,4,8,16,32", help="how many, one after the other")
    parser.add_argument("--clip", default=str(REPOSITORY / "examples/sample.mp4"))
    parser.add_argument("--span", type=float, default=20.0, help="seconds that each rate is over")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--per-file", type=float, help="seconds, for a table of hours")
    options = parser.parse_args()
    if options.per_file:
        for clips, (machines, count) in itertools.product(
            (119_197, 10_000_000), ((1, 8), (10, 16), (100, 16), (100, 64))
        ):
            found = hours(clips, options.per_file, machines, count, 0.9)
            print(json.dumps([clips, machines, count, round(found, 1)]))
        return 0
    counts = [int(count) for count in options.workers.split(",")]
    remembering(1_000_000)
    throughput(options.nodes, counts, options.clip, options.span)
    writing(options.clip, options.rows)
    return 0


if __name__ == "__main__":
    from benchmarks import cluster as importable  # what goes to other machines needs a name there

    sys.exit(importable.main())
