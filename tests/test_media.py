"""The decoder: times, places and levels survive; what is no clip is refused with a reason."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from avfake.media import Clip
from avfake.pictures import Picture
from avfake.types import SAMPLE_RATE, Sound
from tests.clips import beeps, grey_frames, moving_portrait, texture, write_clip
from tests.traps import sample


def pictures(path: Path, colour_every: int = 1, rate: float = 25.0) -> list[Picture]:
    with Clip(path) as clip:
        return list(clip.pictures(colour_every, rate))


def sound_of(path: Path) -> Sound:
    with Clip(path) as clip:
        sound = clip.sound()
    assert sound is not None
    return sound


def onset(sound: Sound) -> float:
    """When on the clip's clock the first loud sample is, in seconds."""
    return sound.start + float(np.argmax(np.abs(sound.samples) > 0.25)) / SAMPLE_RATE


# Pictures and their times


def level_of(time: np.ndarray) -> np.ndarray:
    """Time drawn as brightness: 100 levels a second from 20 on."""
    return 20 + 100 * np.asarray(time)


@pytest.mark.parametrize("fps", [10, 12.5, 30, 60])
def test_each_picture_is_the_frame_nearest_in_time(tmp_path: Path, fps: float) -> None:
    times = np.arange(round(2 * fps)) / fps
    path = write_clip(tmp_path / "clip.mp4", grey_frames(level_of(times)), fps=fps)
    seen = pictures(path)
    assert [p.time for p in seen] == pytest.approx(np.arange(len(seen)) / 25)
    assert seen[-1].time >= times[-1] - 0.04
    for picture in seen:
        shown = (picture.luma.mean() - 20) / 100
        assert abs(shown - picture.time) <= 0.5 / fps + 0.012  # 0.012: one level of brightness


def test_variable_frame_rate_is_sampled_by_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    times = np.concatenate([[0.0], np.cumsum(rng.uniform(0.008, 0.12, 30))])
    path = write_clip(tmp_path / "clip.mkv", grey_frames(level_of(times)), times=times)
    seen = pictures(path)
    assert len(seen) == pytest.approx(times[-1] * 25, abs=1.5)
    for picture in seen:
        nearest = times[np.argmin(np.abs(times - picture.time))]
        away = np.abs(np.abs(times - picture.time) - abs(nearest - picture.time))
        rivals = times[away < 0.003]  # a tie may go to either
        shown = (picture.luma.mean() - 20) / 100
        assert np.abs(rivals - shown).min() < 0.012


def test_an_avi_with_b_frames_shows_what_the_same_film_does_elsewhere(tmp_path: Path) -> None:
    """AVI knows when a frame is decoded, and not when it is shown."""
    lumas = {}
    for name in ("clip.avi", "clip.mkv"):
        with Clip(sample(tmp_path / name)) as clip:
            lumas[name] = [picture.luma for picture in clip.pictures(10)]
            assert clip.warnings == []
    # FFmpeg takes three frames to find the right clock, which then is two frames late.
    odd, plain = lumas["clip.avi"][5:], lumas["clip.mkv"][4:]
    assert len(odd) > 55
    assert all(np.array_equal(one, other) for one, other in zip(odd, plain, strict=False))


def test_the_last_frame_fills_the_time_up_to_its_own(tmp_path: Path) -> None:
    """Frames at 0, 0.04 and 2 s: from the middle of the gap on, the last one is the nearest."""
    path = write_clip(tmp_path / "clip.mkv", grey_frames([50, 100, 200]), times=[0, 0.04, 2.0])
    with Clip(path) as clip:
        seen = list(clip.pictures(8))
        assert clip.warnings == []
    assert [p.time for p in seen] == pytest.approx(np.arange(51) / 25)
    for picture in seen:
        expected = 50 if picture.time < 0.02 else 100 if picture.time < 1.02 else 200
        assert picture.luma.mean() == pytest.approx(expected, abs=3)


def test_colour_comes_with_every_nth_picture(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", grey_frames([100] * 20))
    seen = pictures(path, colour_every=8)
    assert [i for i, p in enumerate(seen) if p.colour is not None] == [0, 8, 16]
    with pytest.raises(ValueError, match="no colour"):
        _ = seen[1].colour_scale


def test_large_pictures_shrink_and_know_their_scale(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [texture(1200, 2160)] * 2)
    picture = pictures(path)[0]
    assert picture.luma.shape == (533, 960)
    assert picture.scale == pytest.approx(2160 / 960)
    assert picture.colour is not None
    assert picture.colour.shape == (1067, 1920, 3)
    assert picture.colour_scale == pytest.approx(2160 / 1920)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotation_turns_the_picture_upright(tmp_path: Path, turn: int) -> None:
    stored = np.zeros((64, 128, 3), np.uint8)
    stored[:24, :40] = 250  # a bright corner: top left
    path = write_clip(tmp_path / "clip.mp4", [stored] * 3, rotation=turn)
    upright = np.rot90(stored, turn // 90)
    with Clip(path) as clip:
        assert (clip.info.height, clip.info.width) == upright.shape[:2]
        assert clip.info.rotation == (360 - turn) % 360
        picture = next(iter(clip.pictures(1)))
    assert picture.luma.shape == upright.shape[:2]
    assert np.abs(picture.luma - upright[..., 0].astype(int)).mean() < 4
    assert picture.colour is not None
    assert np.abs(picture.colour - upright.astype(int)).mean() < 4


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "full_range"),
    [
        ("clip.mp4", "libx264", "yuv420p", False),
        ("clip.mp4", "libx264", "yuv420p", True),
        ("clip.mp4", "libx264", "yuv444p", False),
        ("clip.mp4", "libx264", "yuv420p10le", False),
        ("clip.webm", "libvpx-vp9", "yuv420p", False),
        ("clip.webm", "libvpx-vp9", "yuv420p", True),
        ("clip.avi", "mpeg4", "yuv420p", False),
        ("clip.mkv", "ffv1", "bgr0", True),
    ],
)
def test_luma_agrees_with_the_grey_of_the_colour_picture(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, full_range: bool
) -> None:
    levels = [0, 16, 60, 128, 200, 235, 255]
    path = write_clip(
        tmp_path / name,
        grey_frames(levels),
        video_codec=codec,
        pix_fmt=pix_fmt,
        full_range=full_range,
    )
    for level, picture in zip(levels, pictures(path), strict=True):
        assert picture.colour is not None
        grey = cv2.cvtColor(picture.colour, cv2.COLOR_RGB2GRAY)
        assert grey.mean() == pytest.approx(level, abs=4)
        assert picture.luma.mean() == pytest.approx(grey.mean(), abs=2.5)


# Sound and its times


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
@pytest.mark.parametrize("start", [0.0, 0.3])
def test_the_offset_of_sound_to_picture_is_kept(tmp_path: Path, name: str, start: float) -> None:
    path = write_clip(
        tmp_path / name, grey_frames([100] * 50), sound=beeps(1.5, [0.5]), sound_start=start
    )
    assert onset(sound_of(path)) == pytest.approx(0.5 + start, abs=0.01)


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [("clip.mp4", "aac", 44_100), ("clip.mp4", "aac", 48_000), ("clip.mkv", "libopus", 48_000)],
)
def test_a_click_and_a_flash_stay_together(
    tmp_path: Path, name: str, codec: str, rate: int
) -> None:
    moments = [0.48, 1.2, 1.92]
    levels = [230 if i / 25 in moments else 30 for i in range(60)]
    path = write_clip(
        tmp_path / name,
        grey_frames(levels),
        sound=beeps(2.4, moments, rate),
        sound_rate=rate,
        audio_codec=codec,
    )
    flashes = [p.time for p in pictures(path) if p.luma.mean() > 130]
    assert flashes == pytest.approx(moments)
    sound = sound_of(path)
    for moment in moments:
        around = Sound(sound.between(moment - 0.2, moment + 0.2), moment - 0.2)
        assert onset(around) == pytest.approx(moment, abs=0.01)


def test_a_gap_in_the_sound_becomes_silence(tmp_path: Path) -> None:
    """Packets of one second are missing: what follows stays in its place."""
    whole = write_clip(tmp_path / "whole.mkv", sound=beeps(4, [0.5, 3.0]), audio_codec="pcm_s16le")
    path = tmp_path / "gap.mkv"
    with av.open(str(whole)) as given, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(audio=0):
            if packet.dts is not None and not 1.0 <= packet.pts * packet.time_base < 2.0:
                packet.stream = stream
                out.mux(packet)
    sound = sound_of(path)
    assert sound.duration == pytest.approx(4.0, abs=0.05)
    late = Sound(sound.between(2.5, 4.0), 2.5)
    assert onset(late) == pytest.approx(3.0, abs=0.01)
    assert not sound.between(1.1, 1.9).any()


@pytest.mark.parametrize("channels", [(0.9, 0.9), (0.9, 0.0)])
def test_stereo_becomes_the_mean_of_its_channels(
    tmp_path: Path, channels: tuple[float, float]
) -> None:
    """The same voice on both channels is as loud as in mono, and is not clipped."""
    path = tmp_path / "tone.wav"
    tone = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=44_100, layout="stereo")
        pcm = (np.stack([level * tone for level in channels], 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = 44_100
        out.mux(stream.encode(frame))
    sound = sound_of(path)
    assert sound.duration == pytest.approx(1.0, abs=0.01)
    expected = np.mean(channels) * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(sound.between(0.1, 0.9) - expected[1600:14_400]).max() < 0.02


def mp3(folder: Path, rate: int, layout: str, hertz: float) -> bytes:
    """A second of a tone."""
    path = folder / f"{rate}-{layout}.mp3"
    tone = 0.5 * np.sin(2 * np.pi * hertz * np.arange(rate) / rate)
    channels = np.tile(tone.astype(np.float32), (1 if layout == "mono" else 2, 1))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libmp3lame", rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout=layout)
        frame.sample_rate = rate
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path.read_bytes()


@pytest.mark.parametrize(("rate", "layout"), [(44_100, "stereo"), (22_050, "mono")])
def test_sound_whose_format_changes_midway_is_read_to_its_end(
    tmp_path: Path, rate: int, layout: str
) -> None:
    """Broadcasts and joined files go from mono to stereo, or to another rate, within a stream."""
    path = tmp_path / "joined.mp3"
    path.write_bytes(mp3(tmp_path, 44_100, "mono", 440) + mp3(tmp_path, rate, layout, 880))
    sound = sound_of(path)
    assert sound.duration == pytest.approx(2.1, abs=0.15)
    spectrum = np.abs(np.fft.rfft(sound.between(1.3, 1.8)))
    assert np.argmax(spectrum) * 2 == pytest.approx(880, abs=4)


# What is there and what is not


def test_info_tells_what_the_container_says(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "clip.mp4",
        [texture(120, 160)] * 60,
        fps=30,
        sound=beeps(2, [1]),
        sound_rate=44_100,
    )
    with Clip(path) as clip:
        info = clip.info
        assert clip.has_picture
        assert clip.has_sound
    assert info.duration == pytest.approx(2.0, abs=0.05)
    assert (info.width, info.height, info.fps) == (160, 120, 30)
    assert (info.video_codec, info.audio_codec, info.sample_rate) == ("h264", "aac", 44_100)
    assert not info.is_image


def test_a_clip_without_sound_has_none(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", grey_frames([100] * 5))
    with Clip(path) as clip:
        assert not clip.has_sound
        assert clip.sound() is None


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("voice.wav", "pcm_s16le"),
        ("voice.flac", "flac"),
        ("voice.mp3", "libmp3lame"),
        ("voice.m4a", "aac"),
        ("voice.ogg", "libopus"),
    ],
)
def test_sound_files_have_sound_and_no_picture(tmp_path: Path, name: str, codec: str) -> None:
    rate = 48_000
    path = write_clip(
        tmp_path / name, sound=beeps(1.5, [0.7], rate), sound_rate=rate, audio_codec=codec
    )
    with Clip(path) as clip:
        assert not clip.has_picture
        assert list(clip.pictures(8)) == []
        sound = clip.sound()
    assert sound is not None
    assert sound.duration == pytest.approx(1.5, abs=0.1)
    assert onset(sound) == pytest.approx(0.7, abs=0.06)  # mp3 and opus pad the start


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_a_still_image_is_one_picture_in_colour(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"still{suffix}"
    shown = texture(90, 120)
    cv2.imwrite(str(path), cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))
    with Clip(path) as clip:
        assert clip.info.is_image
        assert (clip.info.width, clip.info.height) == (120, 90)
        assert clip.sound() is None
        (picture,) = clip.pictures(8)
    assert picture.time == 0.0
    assert picture.colour is not None
    assert np.abs(picture.colour - shown.astype(int)).mean() < 8
    assert picture.luma.shape == (90, 120)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_large_still_is_shrunk_and_its_pixels_are_still_told(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"large.{ending}"
    cv2.imwrite(str(path), np.zeros((2000, 3000, 3), np.uint8))
    with Clip(path) as clip:
        assert (clip.info.width, clip.info.height) == (3000, 2000)
        (picture,) = clip.pictures(8)
    assert picture.colour is not None
    assert max(picture.colour.shape) <= 1920
    assert picture.luma.shape[1] * picture.scale == pytest.approx(3000)
    assert picture.colour.shape[1] * picture.colour_scale == pytest.approx(3000)


def test_a_file_cut_short_warns(tmp_path: Path) -> None:
    frames, _ = moving_portrait(50, 25)
    whole = write_clip(tmp_path / "whole.mp4", frames, sound=beeps(2, [0.3]))
    with Clip(whole) as clip:
        clip.sound()
        assert len(list(clip.pictures(8))) == 50
        assert clip.warnings == []
    data = whole.read_bytes()
    path = tmp_path / "short.mp4"
    path.write_bytes(data[: len(data) // 2])
    with Clip(path) as clip:
        clip.sound()
        assert 5 < len(list(clip.pictures(8))) < 45
        assert clip.warnings == ["partial_decode"]


def test_a_matroska_file_cut_short_warns(tmp_path: Path) -> None:
    """Matroska's streams claim no duration of their own; the container does."""
    frames, _ = moving_portrait(75, 25)
    whole = write_clip(tmp_path / "whole.mkv", frames, sound=beeps(3, [0.3]))
    data = whole.read_bytes()
    path = tmp_path / "short.mkv"
    path.write_bytes(data[: len(data) // 2])
    with Clip(path) as clip:
        clip.sound()
        assert 5 < len(list(clip.pictures(8))) < 65
        assert clip.warnings == ["partial_decode"]


def test_damage_in_the_middle_costs_only_the_middle(tmp_path: Path) -> None:
    frames, _ = moving_portrait(75, 25)
    path = write_clip(tmp_path / "clip.mp4", frames)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = bytes(20_000)
    path.write_bytes(data)
    with Clip(path) as clip:
        seen = list(clip.pictures(8))
        assert clip.warnings == ["partial_decode"]
    assert seen[-1].time == pytest.approx(74 / 25)


# Only the first seconds


def test_no_more_than_the_longest_is_decoded(sample_path: Path) -> None:
    with Clip(sample_path, longest=2.0) as clip:
        sound = clip.sound()
        pictures = list(clip.pictures(10))
        assert clip.warnings == ["truncated"]
        assert clip.info.duration == pytest.approx(6.0, abs=0.1)  # as long as it was
    assert sound is not None
    assert sound.end == pytest.approx(2.0, abs=0.1)
    assert pictures[-1].time == pytest.approx(2.0)


def test_a_shorter_clip_is_decoded_as_ever(sample_path: Path) -> None:
    seen = []
    for longest in (None, 60.0):
        with Clip(sample_path, longest) as clip:
            sound = clip.sound()
            assert sound is not None
            seen.append((sound.samples, [p.luma for p in clip.pictures(10)]))
            assert clip.warnings == []
    np.testing.assert_array_equal(seen[0][0], seen[1][0])
    np.testing.assert_array_equal(seen[0][1], seen[1][1])


def test_a_clip_cut_on_purpose_is_not_called_damaged(tmp_path: Path) -> None:
    """Matroska knows one length for all streams, here the sound's."""
    path = write_clip(
        tmp_path / "clip.mkv", grey_frames([90] * 50), sound=np.zeros(16_000 * 8, np.float32)
    )
    for longest in (None, 4.0):
        with Clip(path, longest) as clip:
            clip.sound()
            assert len(list(clip.pictures(10))) == 50
            assert "partial_decode" not in clip.warnings
