"""An MP4 that promises more frames than it can hold is refused before FFmpeg reads it."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from avfake.boxes import FRAMES_ALWAYS, check_claims
from avfake.media import Clip
from avfake.types import AvfakeError
from tests.clips import beeps, write_clip
from tests.traps import box, sample

MANY = FRAMES_ALWAYS + 1


def track(
    count: int, size: int = 1, handler: bytes = b"vide", times: tuple[int, ...] = (1, 9, 512)
) -> bytes:
    """A `trak` of `count` frames of `size` bytes; `times`: entries, frames, ticks of the first."""
    table = box("stts", struct.pack(f">{len(times) + 1}I", 0, *times))
    table += box("stsz", struct.pack(">III", 0, size, count))
    media = box("hdlr", bytes(8) + handler + bytes(12)) + box("minf", box("stbl", table))
    return box("trak", box("mdia", media))


def movie(*tracks: bytes) -> bytes:
    return box("ftyp", b"isom\0\0\2\0") + box("moov", b"".join(tracks))


def fragment(*counts: int) -> bytes:
    runs = b"".join(box("trun", struct.pack(">II", 0, count)) for count in counts)
    return box("moof", box("traf", runs))


def check(data: bytes) -> None:
    file = io.BytesIO(data)
    file.seek(3)
    try:
        check_claims(file, "clip.mp4")
    finally:
        assert file.tell() == 3


@pytest.mark.parametrize(
    "data",
    [
        movie(track(MANY)),
        movie(track(9), track(MANY, handler=b"soun")),
        movie(track(MANY, times=(1, MANY, 1))),
        movie(track(0xFFFFFFFF, size=0xFFFFFFFF)),
        movie() + fragment(MANY),
        movie() + fragment(9, MANY // 2) + fragment(MANY // 2 + 1),
        box("free", b"") + struct.pack(">I4sQ", 1, b"moov", 16 + len(track(MANY))) + track(MANY),
        struct.pack(">I4s", 0, b"moov") + track(MANY),
    ],
)
def test_claims_that_no_file_can_keep(data: bytes) -> None:
    with pytest.raises(AvfakeError, match=r"claims \d+ frames") as caught:
        check(data)
    assert caught.value.reason == "not_media"


@pytest.mark.parametrize(
    "data",
    [
        movie(track(MANY - 1)),
        movie(track(MANY, size=0)),  # their sizes follow: FFmpeg reads them first
        movie(track(MANY, handler=b"soun", times=(1, MANY, 1))),  # PCM: counted by the chunk
        movie(track(MANY)) + box("mdat", bytes(MANY)),
        movie() + fragment(9, 9, 9),
        b"RIFF" + movie(track(MANY)),
        b"",
        b"\0",
        struct.pack(">I4s", 4, b"moov") + track(MANY),
        movie(track(9))[:-10],
        bytes(1000),
    ],
)
def test_what_may_be_true_or_is_no_mp4_is_left_to_ffmpeg(data: bytes) -> None:
    check(data)


def test_an_hour_of_pcm_is_no_lie(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "clip.mov", sound=beeps(100, [1.0], 48_000), sound_rate=48_000,
        audio_codec="pcm_u8",
    )  # fmt: skip
    with Clip(path) as clip:
        sound = clip.sound()
    assert sound is not None
    assert sound.duration == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize(
    "options", [{}, {"movflags": "+faststart"}, {"movflags": "+frag_keyframe+empty_moov"}]
)
def test_a_clip_is_opened_as_ever(tmp_path: Path, options: dict[str, str]) -> None:
    with Clip(sample(tmp_path / "clip.mp4", **options)) as clip:
        assert len(list(clip.pictures(10))) == pytest.approx(63, abs=2)


def test_a_loop_of_boxes_ends(tmp_path: Path) -> None:
    """Nested as deep as can be: `moov` in `moov`."""
    data = b""
    for _ in range(5000):
        data = box("moov", data)
    check(data)
