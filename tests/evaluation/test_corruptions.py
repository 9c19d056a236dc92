"""Each corruption changes what it names, by as much as it says, and leaves the rest."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from avfake.media import Clip
from avfake.types import SAMPLE_RATE, Sound
from evaluation.corruptions import CORRUPTIONS, Source
from tests.clips import beeps, grey_frames, texture, write_clip

SECONDS = 2.0
BURSTS = [0.4, 1.0, 1.5]


def bursts() -> np.ndarray:
    """float32 [n]: silence, and 100 ms of noise at each of BURSTS: unlike a tone it has a time."""
    rng, heard = np.random.default_rng(0), np.zeros(round(SECONDS * SAMPLE_RATE), np.float32)
    for time in BURSTS:
        first = round(time * SAMPLE_RATE)
        grain = np.convolve(rng.normal(0, 0.2, 1610), np.ones(11) / 4, "valid")
        heard[first : first + 1600] = grain
    return heard


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 s of a still picture that slides, 30 pictures a second, and three bursts of noise."""
    wide = texture(96, 400, seed=3)
    grain = np.random.default_rng(3).integers(0, 40, (24, 100, 1), np.uint8)
    wide = np.clip(wide, 0, 215) + cv2.resize(grain, (400, 96), interpolation=0)[..., None]
    frames = [wide[:, 2 * i : 2 * i + 128] for i in range(60)]
    path = tmp_path_factory.mktemp("source") / "clip.mp4"
    return write_clip(path, frames, fps=30, sound=bursts())


@pytest.fixture(scope="module")
def corrupt(source: Path, tmp_path_factory: pytest.TempPathFactory):
    """corrupt(name, level) -> the path of the clip so corrupted; each is made once."""
    folder = tmp_path_factory.mktemp("corrupted")
    opened = Source(source, folder, seed=zlib.crc32(b"clip"))
    made: dict[tuple[str, int], Path] = {}

    def make(name: str, level: int) -> Path:
        if (name, level) not in made:
            made[name, level] = opened.corrupted(CORRUPTIONS[name], level).rename(
                folder / f"kept-{name}-{level}.mkv"
            )
        return made[name, level]

    return make


def pictures(path: Path, rate: float = 30.0) -> np.ndarray:
    """float64 [n, h, w, 3]"""
    with Clip(path) as clip:
        return np.array([p.colour for p in clip.pictures(1, rate)], np.float64)


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean over what both have: the last picture may stand for a moment less."""
    count = min(len(first), len(second))
    assert abs(len(first) - len(second)) <= 2
    return float(np.abs(first[:count] - second[:count]).mean())


def sound(path: Path) -> Sound:
    with Clip(path) as clip:
        heard = clip.sound()
    assert heard is not None
    return heard


def lag_ms(first: Sound, second: Sound) -> float:
    """How much later the second is, by cross-correlation."""
    a, b = (one.between(0, SECONDS) for one in (first, second))
    size = 2 * len(a)
    match = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)))
    place = int(np.argmax(match))
    return (place - size if place > size // 2 else place) / SAMPLE_RATE * 1000


def power(spectrum_of: np.ndarray, low: float, high: float) -> float:
    spectrum = np.abs(np.fft.rfft(spectrum_of)) ** 2
    hertz = np.fft.rfftfreq(len(spectrum_of), 1 / SAMPLE_RATE)
    return float(spectrum[(hertz >= low) & (hertz < high)].sum())


EVERY = [(name, level) for name, one in CORRUPTIONS.items() for level in {1, len(one.values)}]


@pytest.mark.parametrize(("name", "level"), EVERY)
def test_the_rest_of_the_clip_is_kept(source: Path, corrupt, name: str, level: int) -> None:
    before, after = source, corrupt(name, level)
    with Clip(before) as one, Clip(after) as other:
        assert (other.info.width, other.info.height) == (one.info.width, one.info.height)
        # Codecs of sound fill up their last block, and AAC's has 64 ms.
        assert other.info.duration == pytest.approx(one.info.duration, abs=0.13)
        if name != "fps":
            assert other.info.fps == pytest.approx(30)
    if CORRUPTIONS[name].stream == "picture":
        heard = sound(after).between(0, SECONDS)
        assert np.abs(heard - sound(before).between(0, SECONDS)).max() < 1e-3
    else:
        assert difference(pictures(after), pictures(before)) < 2


@pytest.mark.parametrize(
    "name", [n for n, one in CORRUPTIONS.items() if one.stream == "picture" and n != "recoded"]
)
def test_pictures_change_more_from_level_to_level(source: Path, corrupt, name: str) -> None:
    before = pictures(source)
    levels = (1, len(CORRUPTIONS[name].values))
    changes = [difference(pictures(corrupt(name, n)), before) for n in levels]
    recoded = difference(pictures(corrupt("recoded", 1)), before)
    assert changes[-1] > recoded + 0.15
    if len(set(levels)) == 2:
        assert changes[1] > 1.2 * changes[0]


def test_writing_anew_changes_next_to_nothing(source: Path, corrupt) -> None:
    assert np.abs(pictures(corrupt("recoded", 1)) - pictures(source)).mean() < 2
    assert lag_ms(sound(source), sound(corrupt("recoded", 1))) == 0


@pytest.mark.parametrize(("name", "codec"), [("h264", "h264"), ("h265", "hevc")])
def test_video_codecs(corrupt, name: str, codec: str) -> None:
    with Clip(corrupt(name, 5)) as clip:
        assert clip.info.video_codec == codec
    assert corrupt(name, 5).stat().st_size < corrupt(name, 1).stat().st_size


@pytest.mark.parametrize(
    ("name", "codec"), [("aac", "aac"), ("opus", "opus"), ("mp3", "mp3"), ("reverb", "flac")]
)
def test_sound_codecs(corrupt, name: str, codec: str) -> None:
    with Clip(corrupt(name, 5)) as clip:
        assert clip.info.audio_codec == codec


@pytest.mark.parametrize("name", ["aac", "opus", "mp3"])
def test_sound_codecs_keep_the_sound_in_its_place(source: Path, corrupt, name: str) -> None:
    for level in (1, 5):
        heard = [
            # By loudness: what is left of the wave at the lowest bit rates is not its phase.
            Sound(np.convolve(np.abs(sound(path).samples), np.ones(160, np.float32), "same"))
            for path in (source, corrupt(name, level))
        ]
        assert lag_ms(*heard) == pytest.approx(0, abs=5)


def test_fifteen_pictures_a_second(corrupt) -> None:
    with Clip(corrupt("fps", 5)) as clip:
        assert clip.info.fps == pytest.approx(15)
        stored = list(clip.pictures(1, 30))
    distinct = {p.luma.tobytes() for p in stored}
    assert len(stored) == pytest.approx(60, abs=2)
    assert len(distinct) == pytest.approx(30, abs=1)


def test_a_slow_clip_gets_no_pictures_that_it_did_not_have(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "slow.mp4", grey_frames(range(60, 80)), fps=10)
    made = Source(path, tmp_path, seed=0).corrupted(CORRUPTIONS["fps"], 5)
    with Clip(made) as clip:
        assert clip.info.fps == pytest.approx(10)
        assert clip.info.duration == pytest.approx(2.0, abs=0.01)


def test_brightness_contrast_and_greyscale(source: Path, corrupt) -> None:
    before = pictures(source)
    assert pictures(corrupt("brightness", 3)).mean() == pytest.approx(before.mean() / 2, rel=0.05)
    assert pictures(corrupt("contrast", 3)).std() == pytest.approx(before.std() / 2, rel=0.1)
    spread = lambda stills: stills.std(axis=-1).mean()  # noqa: E731
    assert spread(pictures(corrupt("greyscale", 1))) < 1.5
    assert spread(pictures(corrupt("saturation", 5))) > 1.4 * spread(before)


def test_flip_and_rotation(source: Path, corrupt) -> None:
    before = pictures(source)
    assert np.abs(pictures(corrupt("flip", 1)) - before[:, :, ::-1]).mean() < 2
    move = cv2.getRotationMatrix2D((63.5, 47.5), 25, 1)
    turned = cv2.warpAffine(before[0], move, (128, 96))
    assert np.abs(pictures(corrupt("rotation", 5))[0] - turned).mean() < 3


def test_resizing_takes_the_detail(source: Path, corrupt) -> None:
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 256, (96, 128, 3), np.uint8)
    quarter = CORRUPTIONS["resize"].picture(0.25, rng)(fine)
    small = cv2.resize(fine, (32, 24), interpolation=cv2.INTER_AREA)
    assert quarter.shape == fine.shape
    assert 0.5 * small.std() < quarter.std() < small.std() < 0.3 * fine.std()


def test_more_boxes_are_the_same_boxes_and_more() -> None:
    grey = np.full((90, 120, 3), 128, np.uint8)
    one, two, ten = (
        (CORRUPTIONS["boxes"].picture(count, np.random.default_rng(4))(grey) != 128).any(-1)
        for count in (1, 2, 10)
    )
    assert one.sum() == pytest.approx(15 * 20, rel=0.01)
    assert not (one & ~two).any()
    assert not (two & ~ten).any()
    assert ten.sum() > two.sum() > one.sum()


def test_pictures_given_are_left_alone() -> None:
    given = texture(48, 64)
    for name, one in CORRUPTIONS.items():
        if one.picture is not None:
            still = given.copy()
            answer = one.picture(one.values[-1], np.random.default_rng(0))(still)
            assert np.array_equal(still, given), name
            assert answer.dtype == np.uint8
            assert answer.shape == given.shape


@pytest.mark.parametrize(("name", "sign"), [("late", 1), ("early", -1)])
@pytest.mark.parametrize("level", [1, 5])
def test_shifts_move_the_sound_by_that_much(
    source: Path, corrupt, name: str, sign: int, level: int
) -> None:
    assert lag_ms(sound(source), sound(corrupt(name, level))) == pytest.approx(sign * 40 * level)
    assert sound(corrupt(name, level)).duration == pytest.approx(sound(source).duration, abs=0.01)


def test_eight_kilohertz(corrupt) -> None:
    with Clip(corrupt("8khz", 1)) as clip:
        assert clip.info.sample_rate == 8000
    heard = sound(corrupt("8khz", 1)).samples
    assert power(heard, 4200, 8000) < 1e-4 * power(heard, 0, 4000)


def test_noise_is_as_far_below_the_sound_as_it_says(source: Path, corrupt) -> None:
    clean = sound(source).between(0, SECONDS)
    for level, ratio in ((1, 30), (5, 5)):
        rest = sound(corrupt("sound_noise", level)).between(0, SECONDS) - clean
        found = 10 * np.log10(np.mean(clean**2) / np.mean(rest**2))
        assert found == pytest.approx(ratio, abs=0.5)


def test_reverb_rings_on_and_keeps_time_and_loudness(source: Path, corrupt) -> None:
    clean, wet = sound(source), sound(corrupt("reverb", 5))
    assert lag_ms(clean, wet) == pytest.approx(0, abs=1)
    loudness = [np.sqrt(np.mean(s.samples**2)) for s in (clean, wet)]
    assert loudness[1] == pytest.approx(loudness[0], rel=0.02)
    between = lambda s: np.abs(s.between(0.55, 0.95)).mean()  # noqa: E731
    assert between(wet) > 10 * between(clean)


def test_sounds_of_no_length_pass() -> None:
    for one in CORRUPTIONS.values():
        if one.sound is not None:
            empty = np.zeros(0, np.float32)
            assert len(one.sound(empty, one.values[0], np.random.default_rng(0))) == 0
            short = np.ones(10, np.float32)
            assert len(one.sound(short, one.values[-1], np.random.default_rng(0))) == 10


def test_sides_that_are_odd_and_a_sound_that_comes_later(tmp_path: Path) -> None:
    frames = [texture(48, 64)] * 50
    path = write_clip(tmp_path / "a.mp4", frames, fps=25, sound=beeps(1.0, [0.2]), sound_start=0.5)
    heard = sound(path)
    made = Source(path, tmp_path, seed=0).corrupted(CORRUPTIONS["h264"], 1)
    assert lag_ms(heard, sound(made)) == pytest.approx(0, abs=1)
    turned = write_clip(tmp_path / "b.mp4", frames, fps=25, rotation=90)
    made = Source(turned, tmp_path, seed=0).corrupted(CORRUPTIONS["recoded"], 1)
    with Clip(made) as clip:
        assert (clip.info.width, clip.info.height, clip.info.rotation) == (48, 64, 0)


def test_the_same_clip_comes_of_a_second_run(source: Path, tmp_path: Path) -> None:
    made = []
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        one = Source(source, tmp_path / run, seed=7)
        made.append(sound(one.corrupted(CORRUPTIONS["sound_noise"], 2)).samples)
    assert np.array_equal(*made)
