"""Each limit has a default, an option, a reason of its own and an end that it keeps."""

from __future__ import annotations

import errno
import io
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import avfake.container
import avfake.media
from avfake.bundle import Bundle
from avfake.cli import main
from avfake.detector import Detector
from avfake.limits import Limits, is_memory_fault
from avfake.media import Clip
from avfake.types import AvfakeError
from tests.clips import beeps, grey_frames, texture, write_clip


@pytest.fixture
def clip_path(tmp_path: Path) -> Path:
    """Two seconds of grey and a beep."""
    return write_clip(tmp_path / "clip.mp4", grey_frames([90] * 50), sound=beeps(2, [0.5]))


def reason_of(path: Path, limits: Limits, longest: float | None = None) -> str:
    with pytest.raises(AvfakeError) as caught:
        decode(path, longest, limits)
    return caught.value.reason


def decode(path: Path, longest: float | None, limits: Limits) -> None:
    with Clip(path, longest, limits) as clip:
        clip.sound()
        list(clip.pictures(10))


@pytest.mark.parametrize("name", ["pixels", "seconds", "bytes", "decode_seconds", "memory"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_is_more_than_nothing(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})


def test_pixels_of_a_clip(clip_path: Path) -> None:
    assert reason_of(clip_path, Limits(pixels=64 * 64 - 1)) == "too_large"
    with Clip(clip_path, limits=Limits(pixels=64 * 64)) as clip:
        assert len(list(clip.pictures(10))) == 50


def test_pixels_of_a_still_image(tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    cv2.imwrite(str(path), texture(50, 60))
    assert reason_of(path, Limits(pixels=2999)) == "too_large"
    with Clip(path, limits=Limits(pixels=3000)) as clip:
        assert len(list(clip.pictures(1))) == 1


def test_small_pictures_decode_under_a_small_limit(tmp_path: Path) -> None:
    """Decoders count whole blocks: a picture of 2x2 is one of 16x16 to them."""
    path = write_clip(tmp_path / "clip.mp4", grey_frames([90] * 5, (2, 2)))
    with Clip(path, limits=Limits(pixels=4)) as clip:
        assert len(list(clip.pictures(1))) == 5


def test_seconds(clip_path: Path) -> None:
    with Clip(clip_path, limits=Limits(seconds=1.0)) as clip:
        sound = clip.sound()
        assert sound is not None
        assert sound.end == pytest.approx(1.0, abs=0.1)
        assert len(list(clip.pictures(10))) == pytest.approx(26, abs=1)
        assert clip.warnings == ["truncated"]


def test_the_shorter_of_longest_and_the_limit_counts(clip_path: Path) -> None:
    for longest, seconds in ((0.5, 1.0), (1.0, 0.5)):
        with Clip(clip_path, longest, Limits(seconds=seconds)) as clip:
            assert len(list(clip.pictures(10))) == pytest.approx(13, abs=1)


def test_bytes(clip_path: Path) -> None:
    size = clip_path.stat().st_size
    assert reason_of(clip_path, Limits(bytes=size - 1)) == "file_too_large"
    with Clip(clip_path, limits=Limits(bytes=size)) as clip:
        assert clip.has_picture


def test_time_for_decoding(clip_path: Path) -> None:
    assert reason_of(clip_path, Limits(decode_seconds=1e-6)) == "decode_too_slow"


class Watch:
    """A clock for `container` that only moves when it is looked at, or by hand."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_time_for_decoding_is_kept_between_frames(
    clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening fits into it, decoding all of it does not: an error, not half a look."""
    monkeypatch.setattr("avfake.container.perf_counter", Watch(0.01))
    with Clip(clip_path, limits=Limits(decode_seconds=0.5)) as clip:
        assert clip.has_picture
    assert reason_of(clip_path, Limits(decode_seconds=0.5)) == "decode_too_slow"
    decode(clip_path, None, Limits(decode_seconds=50.0))


def test_only_decoding_counts_not_what_others_do_with_the_pictures(
    clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(0.0)
    monkeypatch.setattr("avfake.container.perf_counter", watch)
    with Clip(clip_path, limits=Limits(decode_seconds=1.0)) as clip:
        clip.sound()
        for _ in clip.pictures(10):
            watch.now += 10.0
        assert clip.warnings == []


def test_making_pictures_of_frames_counts_as_decoding(
    clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(0.0)
    monkeypatch.setattr("avfake.container.perf_counter", watch)
    whole = avfake.media.HeldFrame.picture

    def slow(*arguments: Any) -> Any:
        watch.now += 0.3
        return whole(*arguments)

    monkeypatch.setattr(avfake.media.HeldFrame, "picture", slow)
    assert reason_of(clip_path, Limits(decode_seconds=1.0)) == "decode_too_slow"


class Slow(io.BytesIO):
    """A file on a disk that takes its time, and says how often it was asked."""

    reads = 0

    def read(self, count: int | None = -1) -> bytes:
        self.reads += 1
        time.sleep(0.05)
        return super().read(count)


def test_a_slow_disk_is_left_when_the_time_is_over() -> None:
    """Also in the midst of FFmpeg's own search for something to decode."""
    noise = np.random.default_rng(0).bytes(8 << 20)
    file = Slow(b"\xff\xfb\x90\x00" + noise)
    with pytest.raises(AvfakeError) as caught:
        avfake.container.Container(file, "noise.mp3", Limits(decode_seconds=0.3))
    assert caught.value.reason == "decode_too_slow"
    assert file.reads < 20


class Failing(io.BytesIO):
    """A disk that fails once half of the file is read."""

    def read(self, count: int | None = -1) -> bytes:
        if self.tell() > len(self.getbuffer()) // 2:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(count)


@pytest.mark.parametrize("name", ["clip.mp4", "still.jpg", "still.png"])
def test_a_disk_that_fails_is_told_and_not_taken_for_the_end(
    sample_path: Path,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    def failing(path: Path, most: int) -> Failing:
        return Failing(path.read_bytes())

    path = sample_path
    if name != "clip.mp4":
        path = tmp_path / name
        cv2.imwrite(str(path), texture(600, 800))
    monkeypatch.setattr("avfake.media.open_regular", failing)
    prediction = Detector(bundle).predict(path)
    assert (prediction.status, prediction.reason) == ("error", "not_readable")
    assert prediction.message == f"{path.name} cannot be read: Input/output error."


# Memory


def too_much() -> None:
    cv2.copyMakeBorder(np.zeros((2, 2), np.uint8), 0, 1 << 30, 0, 1 << 30, cv2.BORDER_CONSTANT)


def test_opencvs_way_to_say_that_memory_ran_out() -> None:
    with pytest.raises(cv2.error) as caught:
        too_much()
    assert is_memory_fault(caught.value)
    with pytest.raises(cv2.error) as caught:
        cv2.resize(np.zeros((0, 0), np.uint8), (3, 3))
    assert not is_memory_fault(caught.value)


def test_others_ways_to_say_so() -> None:
    import av.error

    class Fail(RuntimeError):
        """As onnxruntime raises them."""

    Fail.__module__ = "onnxruntime.capi.onnxruntime_pybind11_state"
    assert is_memory_fault(MemoryError())
    assert is_memory_fault(av.error.MemoryError(errno.ENOMEM, "no memory"))
    assert is_memory_fault(Fail("Failed to allocate memory for requested buffer of size 9"))
    assert is_memory_fault(Fail("std::bad_alloc"))
    assert not is_memory_fault(Fail("Got invalid dimensions for input"))
    assert not is_memory_fault(RuntimeError("std::bad_alloc, says a text"))


@pytest.mark.parametrize("stage", ["sound", "pictures", "branch"])
def test_memory_that_runs_out_has_its_own_reason(
    bundle: Bundle, sample_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """In a branch, too: the other branches' answer would be another score."""

    def failing(*_: Any) -> None:
        if stage == "pictures":
            too_much()
        raise MemoryError

    detector = Detector(bundle)
    if stage == "branch":
        monkeypatch.setattr(detector.visual, "score", failing)
    else:
        monkeypatch.setattr(Clip, stage, failing)
    prediction = detector.predict(sample_path)
    assert (prediction.status, prediction.reason) == ("error", "out_of_memory")
    assert prediction.fake_probability is None


# Options


def first_row(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    main(["predict", "--json", *arguments])
    row: dict[str, Any] = json.loads(capsys.readouterr().out)
    return row


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--max-pixels", "4095", "too_large"),
        ("--max-bytes", "0.1K", "file_too_large"),
        ("--max-decode-seconds", "0.000001", "decode_too_slow"),
    ],
)
def test_each_limit_has_an_option(
    clip_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, reason: str
) -> None:
    assert first_row(capsys, option, value, str(clip_path))["reason"] == reason


def test_seconds_have_an_option(clip_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = first_row(capsys, "--max-seconds", "1", str(clip_path))
    assert row["warnings"] == ["truncated"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--max-pixels", "0"),
        ("--max-pixels", "many"),
        ("--max-seconds", "-1"),
        ("--max-seconds", "nan"),
        ("--max-bytes", "0"),
        ("--max-bytes", "lots"),
        ("--max-decode-seconds", "soon"),
    ],
)
def test_what_is_no_limit_is_wrong_usage(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["predict", option, value, "clip.mp4"])
    assert stop.value.code == 2
    assert option in capsys.readouterr().err


def test_help_tells_the_limits(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for words in ("40000000", "3600", "16G", "600", "decode_too_slow", "file_too_large"):
        assert words in text


def test_an_address_is_told_from_a_file_that_is_not_there(detector: Detector) -> None:
    answer = detector.predict("https://example.org/clip.mp4")
    assert answer.reason == "not_found"
    assert answer.message == "clip.mp4 is an address; only `avfake batch --fetch` takes those."
    assert detector.predict("C:clip.mp4").message == "There is no file C:clip.mp4."
