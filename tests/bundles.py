"""What tests do to a bundle, and how it must be refused then."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from avfake.bundle import MANIFEST, load_bundle
from avfake.detector import Detector
from avfake.types import AvfakeError


def edit(folder: Path, **changes: Any) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_graph(folder: Path, graph: str, **changes: Any) -> None:
    """Change what the manifest says of a graph."""
    graphs = json.loads((folder / MANIFEST).read_text())["graphs"]
    graphs[graph] |= changes
    edit(folder, graphs=graphs)


def replace(folder: Path, graph: str, data: bytes) -> Path:
    """Put another file in a graph's place, with a checksum that is right."""
    path = folder / json.loads((folder / MANIFEST).read_text())["graphs"][graph]["file"]
    path.write_bytes(data)
    edit_graph(folder, graph, sha256=hashlib.sha256(data).hexdigest())
    return path


def refused(folder: Path, reason: str | None = None) -> AvfakeError:
    with pytest.raises(AvfakeError) as caught:
        Detector(load_bundle(folder))
    assert str(caught.value).isprintable(), "one sentence, on one line"
    assert reason in (None, caught.value.reason), caught.value
    return caught.value
