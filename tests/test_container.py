"""What is opened and what is refused: regular files that hold what is decoded, by any name."""

from __future__ import annotations

import os
import time as clock
from pathlib import Path

import cv2
import numpy as np
import pytest

from avfake.media import Clip
from avfake.types import AvfakeError
from tests.clips import beeps, grey_frames, texture, write_clip
from tests.test_media import onset, pictures


def refused(path: Path | str) -> AvfakeError:
    started = clock.perf_counter()
    with pytest.raises(AvfakeError) as caught:
        Clip(path)
    assert clock.perf_counter() - started < 2
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return caught.value


def test_a_missing_file(tmp_path: Path) -> None:
    error = refused(tmp_path / "nobody.mp4")
    assert error.reason == "not_found"
    assert "nobody.mp4" in str(error)


def test_a_name_that_no_file_can_have() -> None:
    assert refused("a\0b.mp4").reason == "not_readable"


def test_a_folder(tmp_path: Path) -> None:
    assert refused(tmp_path).reason == "not_a_file"
    for name in (".", "/"):
        assert str(refused(name)).startswith(f"{name} is not")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clip.mp4")
    assert refused(tmp_path / "clip.mp4").reason == "not_a_file"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices on this system")
def test_a_device_is_refused_at_once() -> None:
    assert refused("/dev/zero").reason == "not_a_file"


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert refused(tmp_path / "empty.mp4").reason == "empty_file"


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{}'\n"


@pytest.mark.parametrize("text", ["Once upon a time. " * 50, PLAYLIST, CONCAT])
@pytest.mark.parametrize("name", ["list.mp4", "list.txt", "list.m3u8", "list.ffconcat"])
def test_text_is_no_clip_and_opens_no_other_file(tmp_path: Path, text: str, name: str) -> None:
    """A playlist would make FFmpeg open whatever it names."""
    write_clip(tmp_path / "secret.mp4", grey_frames([100] * 5))
    path = tmp_path / name
    path.write_text(text.format("secret.mp4"))
    assert refused(path).reason == "not_media"


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_an_image_without_pixels(tmp_path: Path, suffix: str) -> None:
    _, data = cv2.imencode(suffix, texture(60, 80))
    path = tmp_path / f"bare{suffix}"
    path.write_bytes(data.tobytes()[:30])
    error = refused(path)
    assert error.reason == "not_media"
    assert f"bare{suffix}" in str(error)


def test_a_huge_still_image_is_refused(tmp_path: Path) -> None:
    """48 million pixels in 140 kB: a decompression bomb, were there no limit."""
    _, data = cv2.imencode(".png", np.zeros((6000, 8000), np.uint8))
    path = tmp_path / "bomb.png"
    path.write_bytes(data.tobytes())
    assert refused(path).reason == "too_large"


def foreign(path: Path, atoms: dict[bytes, bytes]) -> Path:
    """Rename codec atoms of an MP4 so that no decoder knows them."""
    data = path.read_bytes()
    for known, unknown in atoms.items():
        assert known in data
        data = data.replace(known, unknown)
    path.write_bytes(data)
    return path


def test_a_picture_that_no_decoder_knows_leaves_the_sound(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", grey_frames([90] * 25), sound=beeps(1, [0.5]))
    foreign(path, {b"avc1": b"zzz1", b"avcC": b"zzzC"})
    with Clip(path) as clip:
        assert not clip.has_picture
        assert list(clip.pictures(8)) == []
        sound = clip.sound()
    assert sound is not None
    assert onset(sound) == pytest.approx(0.5, abs=0.01)


def test_sound_that_no_decoder_knows_leaves_the_picture(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", grey_frames([90] * 25), sound=beeps(1, [0.5]))
    foreign(path, {b"mp4a": b"zzza", b"esds": b"zzzs"})
    with Clip(path) as clip:
        assert not clip.has_sound
        assert clip.sound() is None
        assert len(list(clip.pictures(8))) == 25


def test_a_file_name_that_is_not_utf_8(tmp_path: Path) -> None:
    plain = write_clip(tmp_path / "clip.mp4", grey_frames([90] * 5))
    odd = os.path.join(os.fsencode(tmp_path), b"clip\xff.mp4")
    try:
        os.rename(plain, odd)
    except OSError:
        pytest.skip("this file system takes no such names")
    assert len(pictures(Path(os.fsdecode(odd)))) == 5
