"""The marked-up clip: as long as the clip, its faces boxed, its sound where it was."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avfake.cli_common import mark
from avfake.detector import Detector
from avfake.limits import Limits
from avfake.markup import _label, whole, write_marked_video
from avfake.media import Clip
from avfake.types import SAMPLE_RATE, AvfakeError, Prediction
from tests.clips import beeps, grey_frames, portrait, write_clip
from tests.traps import TRAPS


def first_picture(path: Path) -> np.ndarray:
    with Clip(path) as clip:
        colour = next(iter(clip.pictures(1))).colour
    assert colour is not None
    return colour


@pytest.fixture(scope="module")
def marked(sample_prediction: Prediction, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("marked") / "marked.mp4"
    write_marked_video(sample_prediction, out)
    return out


def test_faces_are_boxed_and_nothing_else_is_changed(
    marked: Path, sample_path: Path, sample_prediction: Prediction
) -> None:
    before, after = (first_picture(path).astype(int) for path in (sample_path, marked))
    assert before.shape == after.shape
    changed = np.abs(before - after).max(2) > 60
    left, top, right, bottom = (round(float(v)) for v in sample_prediction.tracks[0].boxes[0])
    assert changed[bottom - 1 : bottom + 2, left:right].any(0).mean() > 0.9
    assert changed[top:bottom, right - 1 : right + 2].any(1).mean() > 0.9
    inside = changed[top + 30 : bottom - 8, left + 8 : right - 8]
    assert inside.mean() < 0.02


def test_it_is_as_long_as_the_clip_with_its_sound_in_place(marked: Path, sample_path: Path) -> None:
    sounds = []
    for path in (sample_path, marked):
        with Clip(path) as clip:
            sound = clip.sound()
            assert sound is not None
            assert clip.info.duration == pytest.approx(6.0, abs=0.15)
            sounds.append(sound.between(0.5, 5.5))
    one, other = (np.abs(sound) for sound in sounds)
    lag = np.fft.irfft(np.conj(np.fft.rfft(one)) * np.fft.rfft(other)).argmax()
    lag = min(lag, len(one) - lag)
    assert lag / SAMPLE_RATE < 0.03


def test_sound_that_begins_late_stays_late(detector: Detector, tmp_path: Path) -> None:
    pictures = [np.ascontiguousarray(portrait()[:300, :300])] * 50
    path = write_clip(tmp_path / "late.mkv", pictures, sound=beeps(1.0, [0.3]), sound_start=0.8)
    write_marked_video(detector.predict(path), tmp_path / "out.mp4")
    with Clip(tmp_path / "out.mp4") as clip:
        sound = clip.sound()
    assert sound is not None
    loud = sound.start + np.abs(sound.samples).argmax() / SAMPLE_RATE
    assert loud == pytest.approx(1.1, abs=0.05)


def still(folder: Path) -> Path:
    import cv2

    cv2.imwrite(str(folder / "still.png"), portrait()[..., ::-1])
    return folder / "still.png"


def voice(folder: Path) -> Path:
    return write_clip(folder / "a.wav", sound=beeps(1.0, [0.3]), audio_codec="pcm_s16le")


@pytest.mark.parametrize("make", [still, voice])
def test_what_does_not_move_cannot_be_marked(
    detector: Detector, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    with pytest.raises(AvfakeError) as caught:
        write_marked_video(detector.predict(make(tmp_path)), tmp_path / "out.mp4")
    assert caught.value.reason == "nothing_to_mark"
    assert not (tmp_path / "out.mp4").exists()


def test_limits_hold_here_too(detector: Detector, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", grey_frames([90] * 10))
    with pytest.raises(AvfakeError) as caught:
        write_marked_video(detector.predict(path), tmp_path / "out.mp4", Limits(pixels=100))
    assert caught.value.reason == "too_large"


def test_a_clip_that_claims_to_last_for_ages_ends_where_judging_does(
    detector: Detector, tmp_path: Path
) -> None:
    prediction = detector.predict(TRAPS["avi_header_lies"](tmp_path))
    write_marked_video(prediction, tmp_path / "out.mp4", Limits(seconds=4.0))
    with Clip(tmp_path / "out.mp4") as clip:
        assert clip.info.duration == pytest.approx(4.0, abs=0.2)


@pytest.mark.parametrize("name", ["out.avi", "there.mp4", "nowhere/out.mp4"])
def test_nothing_is_overwritten_and_nothing_begun_in_vain(
    sample_prediction: Prediction, tmp_path: Path, name: str
) -> None:
    (tmp_path / "there.mp4").write_text("mine")
    with pytest.raises(AvfakeError) as caught:
        write_marked_video(sample_prediction, tmp_path / name)
    assert caught.value.reason == "usage"
    assert (tmp_path / "there.mp4").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on a file's size")
def test_a_full_disk_leaves_nothing(detector: Detector, tmp_path: Path) -> None:
    """Also where FFmpeg notices only at its end, which a short film comes to in one go."""
    import resource

    path = write_clip(tmp_path / "clip.mp4", [np.ascontiguousarray(portrait()[:300, :300])] * 10)
    prediction = detector.predict(path)
    out = tmp_path / "out" / "marked.mp4"
    out.parent.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(AvfakeError) as caught:
            write_marked_video(prediction, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.reason == "not_written"
    assert str(caught.value) == "marked.mp4 could not be written."
    assert not list(out.parent.iterdir())


def test_a_process_that_is_lost_in_the_midst_leaves_nothing(
    sample_prediction: Prediction, tmp_path: Path
) -> None:
    class Lost:
        def ask(self, task: Any, about: str) -> None:
            (begun,) = tmp_path.iterdir()
            (begun / "marked.mp4").write_text("half a film")
            raise AvfakeError("timeout", "It took more than 1 s.")

    lost: Any = Lost()
    with pytest.raises(AvfakeError, match="took more"):
        mark(sample_prediction, str(tmp_path / "marked.mp4"), lost)
    assert not list(tmp_path.iterdir())


def test_what_came_to_be_there_meanwhile_stays(tmp_path: Path) -> None:
    out = tmp_path / "marked.mp4"

    def write() -> None:
        with whole(out) as part:
            part.write_text("film")
            out.write_text("mine")

    with pytest.raises(AvfakeError) as caught:
        write()
    assert caught.value.reason == "usage"
    assert out.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [out]


def test_words_stay_within_the_picture() -> None:
    """A face at the right edge, and a clip that is narrower than what is said of it."""
    for width, left in ((400, 380), (200, 0)):
        picture = np.full((120, width, 3), 90, np.uint8)
        _label(picture, "likely fake: probability of a fake 67%", (left, 60), (0, 255, 0))
        letters = (picture[..., 1] < 200) & (picture[..., 0] < 60)
        assert letters.sum() > 100
        assert not letters[:, -2:].any()
