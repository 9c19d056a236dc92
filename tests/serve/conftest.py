"""One server that most tests share; what it judges is scripted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from avfake.limits import Limits
from avfake.workers import Models
from tests.serve.servers import Client, served

MOST = 1 << 20  # bytes of a file


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the shared server keeps its files."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Client]:
    models = Models(limits=Limits(bytes=MOST, memory=600 << 20))
    with served(folder, models=models, workers=1, queue=2, timeout=5.0) as client:
        yield client
