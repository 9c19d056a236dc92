"""What several rooms' tests share: the sample clip, one loaded detector and its answer."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfake.bundle import Bundle, load_bundle
from avfake.detector import Detector
from avfake.types import Prediction

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(autouse=sys.platform == "linux")
def ordinary_priority() -> Iterator[None]:
    """No test changes the process's priority: some libraries make it a real-time one, and then
    whatever waits by spinning, here or in a process started later, starves the machine."""
    before = os.sched_getscheduler(0)
    yield
    assert os.sched_getscheduler(0) == before


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def sample_path() -> Path:
    """A portrait that a script makes talk: 6 s, 25 pictures a second, with sound."""
    return REPOSITORY / "examples" / "sample.mp4"


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """The bundle that ships."""
    return load_bundle()


@pytest.fixture(scope="session")
def bundle_folder(bundle: Bundle) -> str:
    """Where that bundle lies, for tests that start a Python of their own."""
    return str(bundle.folder)


@pytest.fixture
def bundle_copy(bundle: Bundle, tmp_path: Path) -> Path:
    """The shipped bundle in a folder that may be damaged."""
    folder = tmp_path / "copy"
    shutil.copytree(bundle.folder, folder)
    return folder


@pytest.fixture(scope="session")
def detector(bundle: Bundle) -> Detector:
    """Loaded once for the whole session; a detector keeps nothing of a clip."""
    return Detector(bundle)


@pytest.fixture(scope="session")
def sample_prediction(detector: Detector, sample_path: Path) -> Prediction:
    return detector.predict(sample_path)


@pytest.fixture(scope="session")
def packs() -> Path:
    """The folder of real media that AVFAKE_DATA names; tests of it are skipped without."""
    root = os.environ.get("AVFAKE_DATA")
    if root is None:
        pytest.skip("AVFAKE_DATA does not name a folder of real media")
    return Path(root)


@pytest.fixture(scope="session")
def pango() -> None:
    """Pango, which weasyprint loads and pip does not install; tests of PDF are skipped without."""
    try:
        import weasyprint  # noqa: F401
    except OSError as error:
        pytest.skip(f"PDF needs a library of the system: {str(error).split(':')[0]}")
