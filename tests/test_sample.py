"""The script that makes the sample clip makes one in which a person is seen and heard."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from avfake.faces import DlibFinder
from avfake.media import Clip
from avfake.pictures import Picture
from avfake.speech import SpeechActivity
from avfake.types import Sound


@pytest.fixture(scope="module")
def script(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_sample", repository / "examples" / "make_sample.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(
    script: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Picture], Sound]:
    path = tmp_path_factory.mktemp("sample") / "made.mp4"
    script.make_sample(path, seconds=2.4)
    with Clip(path) as clip:
        sound = clip.sound()
        pictures = list(clip.pictures(1))
    assert sound is not None
    return pictures, sound


def test_the_face_is_found_in_nearly_every_picture(made: tuple[list[Picture], Sound]) -> None:
    pictures, _ = made
    assert len(pictures) == 60
    finder = DlibFinder(sides=(384,))
    found = [len(finder.find(picture.colour)) == 1 for picture in pictures[::3]]
    assert np.mean(found) >= 0.95


def test_somebody_speaks(made: tuple[list[Picture], Sound]) -> None:
    _, sound = made
    assert sound.duration == pytest.approx(2.4, abs=0.1)
    assert SpeechActivity(sound).total > 1.5


def test_the_mouth_opens_with_the_voice(made: tuple[list[Picture], Sound]) -> None:
    """The mouth's darkness follows the loudness at no delay better than half a second off."""
    pictures, sound = made
    dark = np.array([-p.luma[150:190, 175:215].mean() for p in pictures])
    loud = np.array([np.sqrt(np.mean(sound.between(p.time, p.time + 0.04) ** 2)) for p in pictures])

    def fit(lag: int) -> float:
        a, b = dark[15:-15], np.roll(loud, lag)[15:-15]
        return float(np.corrcoef(a, b)[0, 1])

    lags = range(-12, 13)
    assert abs(max(lags, key=fit)) <= 1
    assert fit(0) > 0.5


def test_the_committed_sample_is_what_the_script_makes(
    script: ModuleType, sample_path: Path
) -> None:
    """Its voice, at least: the pictures take longer."""
    with Clip(sample_path) as clip:
        sound = clip.sound()
    assert sound is not None
    expected = script.speech(6.0, np.random.default_rng(7))
    heard = sound.between(0.0, 6.0)
    assert np.corrcoef(heard, expected)[0, 1] > 0.95
