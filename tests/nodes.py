"""A Ray cluster of several nodes on this machine, each of which can be killed."""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import pytest

from tests.conftest import REPOSITORY

TOKEN = secrets.token_hex(32)  # one for all: Ray reads it once, when it is imported
Nodes = Any  # ray.cluster_utils.Cluster


@contextmanager
def three_nodes(cpus: tuple[int, int, int] = (0, 2, 2)) -> Iterator[Nodes]:
    """A head and two nodes with so many CPUs each: real processes, as on three machines."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    settings = {
        "PYTHONPATH": str(REPOSITORY),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": cpus[0], "include_dashboard": False}
        )
        for count in cpus[1:]:
            cluster.add_node(num_cpus=count)
        yield cluster
        cluster.shutdown()


def lose_head(nodes: Nodes) -> None:
    """All that runs on the head, at once."""
    own = [each.process.pid for kind in nodes.head_node.all_processes.values() for each in kind]
    below = [each for pid in own for each in psutil.Process(pid).children(recursive=True)]
    for process in [*map(psutil.Process, own), *below]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def raylet(node: Any) -> float:
    return float(node.all_processes["raylet"][0].process.pid)


def kill(nodes: Nodes, node: Any) -> None:
    """The node and all that runs on it, without a word."""
    processes = psutil.Process(int(raylet(node))).children(recursive=True)
    for process in processes:
        process.kill()
    nodes.remove_node(node, allow_graceful=False)
