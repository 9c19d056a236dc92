"""What browsers cannot play gets a preview, which is whole, small and on the clip's own clock."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from avfake.media import Clip
from avfake.serve.playback import PREVIEW_SIDE, Playback, playback_of, write_preview
from avfake.types import SAMPLE_RATE
from benchmarks.fuzz import AV1
from tests.clips import write_clip
from tests.traps import TRAPS

TONE = 0.3 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)


def frames(count: int = 25, size: tuple[int, int] = (64, 96)) -> list[np.ndarray]:
    return [np.full((*size, 3), 20 + 8 * number, np.uint8) for number in range(count)]


def playback(path: Path) -> Playback | None:
    with Clip(path) as clip:
        info = clip.info
    return playback_of(path, info)


@pytest.mark.parametrize(
    ("name", "codecs", "kind"),
    [
        ("a.mp4", {}, "video/mp4"),
        ("a.mov", {}, "video/mp4"),
        ("a.mp4", {"pix_fmt": "yuv444p"}, None),
        ("a.mp4", {"video_codec": "mpeg4"}, None),
        ("a.mp4", {"audio_codec": "ac3"}, None),
        ("a.mp4", {"audio_codec": "libmp3lame"}, "video/mp4"),
        ("a.webm", {"video_codec": "libvpx", "audio_codec": "libopus"}, "video/webm"),
        ("a.webm", {"video_codec": "libvpx-vp9", "audio_codec": "libopus"}, "video/webm"),
        ("a.mkv", {}, None),
        ("a.mkv", {"video_codec": "libvpx", "audio_codec": "libopus"}, None),
        ("a.avi", {"video_codec": "mpeg4", "audio_codec": "mp2"}, None),
        ("a.ts", {}, None),
    ],
)
def test_which_films_browsers_play(
    tmp_path: Path, name: str, codecs: dict[str, str], kind: str | None
) -> None:
    rate = 48_000 if "opus" in codecs.get("audio_codec", "") else SAMPLE_RATE
    rate = 48_000 if codecs.get("audio_codec") in ("ac3", "mp2") else rate
    path = write_clip(tmp_path / name, frames(), sound=TONE, sound_rate=rate, **codecs)
    assert playback(path) == Playback("video", kind)


def test_browsers_play_av1() -> None:
    assert playback(AV1) == Playback("video", "video/mp4")


@pytest.mark.parametrize(
    ("name", "codec", "kind"),
    [
        ("a.wav", "pcm_s16le", "audio/wav"),
        ("a.flac", "flac", "audio/flac"),
        ("a.mp3", "libmp3lame", "audio/mpeg"),
        ("a.ogg", "libopus", "audio/ogg"),
        ("a.m4a", "aac", "audio/mp4"),
        ("a.wav", "pcm_s32le", None),
        ("a.aiff", "pcm_s16be", None),
        ("a.mkv", "aac", None),
    ],
)
def test_which_sounds_browsers_play(
    tmp_path: Path, name: str, codec: str, kind: str | None
) -> None:
    rate = 48_000 if codec == "libopus" else SAMPLE_RATE
    path = write_clip(tmp_path / name, sound=TONE, sound_rate=rate, audio_codec=codec)
    assert playback(path) == Playback("audio", kind)


@pytest.mark.parametrize("what", ["sound", "picture"])
def test_streams_that_no_decoder_knows_are_left_to_the_preview(tmp_path: Path, what: str) -> None:
    kind = "video" if what == "sound" else "audio"
    path = TRAPS[f"codec_of_{what}_unknown"](tmp_path)
    found = playback(path)
    assert found is not None
    assert found.kind == kind
    if what == "sound":
        assert found.type is None
        write_preview(path, tmp_path / "preview.mp4")
        with Clip(tmp_path / "preview.mp4") as clip:
            assert (clip.has_picture, clip.has_sound) == (True, False)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp"])
def test_pictures_are_played_as_what_they_are(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.mp4"  # whatever they are called
    Image.fromarray(frames(1)[0]).save(path, kind)
    assert playback(path) == Playback("image", f"image/{kind}")


def test_a_preview_has_picture_and_sound_where_the_clip_has_them(tmp_path: Path) -> None:
    times = 0.4 + np.arange(30) / 30
    source = write_clip(
        tmp_path / "a.mkv", frames(30, (1000, 600)), times=list(times), sound=TONE, sound_start=0.2
    )
    out = tmp_path / "preview.mp4"
    write_preview(source, out)
    assert playback(out) == Playback("video", "video/mp4")
    with Clip(source) as before, Clip(out) as after:
        heard, said = before.sound(), after.sound()
        assert heard is not None
        assert said is not None
        seen, shown = list(before.pictures(1)), list(after.pictures(1))
    assert max(shown[0].colour.shape) <= PREVIEW_SIDE
    # Times are told from the file's beginning on, which is its earliest sample's.
    lag = said.start - heard.start
    assert shown[0].time - seen[0].time == pytest.approx(lag, abs=0.03)
    assert len(shown) == pytest.approx(len(seen), abs=1)
    for one in (3, 12, 20):
        assert shown[one].luma.mean() == pytest.approx(seen[one].luma.mean(), abs=6)
    assert said.duration == pytest.approx(heard.duration, abs=0.1)
    assert np.abs(said.samples).max() == pytest.approx(0.3, abs=0.1)


def test_a_preview_of_sound_alone(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.aiff", sound=TONE, audio_codec="pcm_s16be")
    out = tmp_path / "preview.mp4"
    write_preview(source, out)
    assert playback(out) == Playback("audio", "audio/mp4")


def test_a_preview_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avfake.serve.playback.PREVIEW_SECONDS", 0.4)
    source = write_clip(tmp_path / "a.mkv", frames())
    out = tmp_path / "preview.mp4"
    write_preview(source, out)
    with av.open(str(out)) as container:
        assert container.duration / 1e6 == pytest.approx(0.44, abs=0.06)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "preview.mp4"]
