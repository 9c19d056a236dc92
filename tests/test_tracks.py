"""Tracks: a box on every picture, right also between searches; cut where the scene is cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from avfake.faces import DlibFinder, FaceFinder, overlap
from avfake.media import Clip
from avfake.pictures import Picture
from avfake.tracks import SEARCH_EVERY, Stretch, Tracker, blocks
from avfake.types import Detection, Track
from tests.clips import FACE_IN_PORTRAIT, moving_portrait, portrait, texture, write_clip

SIZE = (360, 480)


def to_pictures(frames: Sequence[np.ndarray], fps: float = 25) -> list[Picture]:
    """What the decoder would hand over, without the detour of a file."""
    return [
        Picture(
            index / fps,
            cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY),
            1.0,
            frame if index % SEARCH_EVERY == 0 else None,
        )
        for index, frame in enumerate(frames)
    ]


def follow(pictures: Sequence[Picture], tracker: Tracker) -> list[Track]:
    for block in blocks(iter(pictures)):
        tracker.advance(block)
    return tracker.tracks()


def small_finder() -> DlibFinder:
    """dlib at the size of these tests' pictures alone: a quarter of the time."""
    return DlibFinder(sides=(480,))


def still(count: int, seed: int, negative: bool = False) -> list[np.ndarray]:
    """A head before a background (or its negative), with a little camera noise."""
    rng = np.random.default_rng(seed)
    picture = 255 - texture(*SIZE, seed) if negative else texture(*SIZE, seed)
    picture[80:270, 160:320] = portrait()[30:220, 80:240]
    noisy = [
        np.clip(picture + rng.normal(0, 1.5, picture.shape), 0, 255).astype(np.uint8)
        for _ in range(3)
    ]
    return [noisy[index % 3] for index in range(count)]


class ScriptedFinder:
    """Knows where the faces are, by the script, and when to look away."""

    name = "scripted"

    def __init__(self, inner: FaceFinder, blind: Sequence[int] = ()) -> None:
        self._inner = inner
        self._blind = set(blind)  # searches, counted from 0, that see nobody
        self.searches = 0
        self.whole = 0

    def find(self, picture: np.ndarray) -> list[Detection]:
        self.whole += 1
        return self._look(self._inner.find, picture)

    def find_as_is(self, picture: np.ndarray) -> list[Detection]:
        return self._look(self._inner.find_as_is, picture)

    def _look(self, find: object, picture: np.ndarray) -> list[Detection]:
        number, self.searches = self.searches, self.searches + 1
        return [] if number in self._blind else find(picture)  # type: ignore[operator]


def test_blocks_end_with_a_picture_in_colour() -> None:
    grouped = list(blocks(iter(to_pictures([np.zeros((8, 8, 3), np.uint8)] * 20))))
    assert [len(block) for block in grouped] == [1, SEARCH_EVERY, 19 - SEARCH_EVERY]
    for block in grouped[:-1]:
        assert [p.colour is not None for p in block] == [False] * (len(block) - 1) + [True]


def test_a_moving_face_is_followed_on_every_picture(tmp_path: Path) -> None:
    """Through a real file at 30 pictures a second: gliding, growing, shrinking."""
    fps = 30
    frames, truth = moving_portrait(150, fps)
    path = write_clip(tmp_path / "clip.mp4", frames, fps=fps)
    with Clip(path) as clip:
        seen = list(clip.pictures(SEARCH_EVERY))
    (track,) = follow(seen, Tracker(DlibFinder()))
    assert track.times == pytest.approx([p.time for p in seen])
    nearest = [int(np.argmin(np.abs(np.arange(150) / fps - time))) for time in track.times]
    shares = np.array(
        [overlap(box, truth[index]) for box, index in zip(track.boxes, nearest, strict=True)]
    )
    assert (shares >= 0.6).mean() >= 0.95
    assert (shares[~track.found] >= 0.6).mean() >= 0.95
    assert 0 < track.found.sum() <= len(seen) / SEARCH_EVERY + 1


def test_boxes_do_not_tremble_on_a_still_face() -> None:
    """Mouths are cut by these boxes: a jump would look like a movement of the lips."""
    (track,) = follow(to_pictures(still(60, seed=1)), Tracker(small_finder()))
    steps = np.abs(np.diff((track.boxes[:, :2] + track.boxes[:, 2:]) / 2, axis=0))
    assert steps.max() < 1.5
    assert np.ptp(track.boxes[10:], axis=0).max() < 8


@pytest.mark.parametrize("cut", range(24, 33))
def test_a_scene_cut_ends_the_track(cut: int) -> None:
    """Wherever in a block the cut falls, and though the same face stays in the same place."""
    frames = still(cut, seed=3) + still(20, seed=3, negative=True)
    tracks = follow(to_pictures(frames), Tracker(small_finder()))
    assert [(round(t.times[0] * 25), round(t.times[-1] * 25)) for t in tracks] == [
        (0, cut - 1),
        (cut, cut + 19),
    ]


def test_a_flash_is_no_cut() -> None:
    frames = still(40, seed=3)
    for index in (20, 21):
        frames[index] = np.clip(frames[index] * 0.6 + 90, 0, 255).astype(np.uint8)
    (track,) = follow(to_pictures(frames), Tracker(small_finder()))
    assert len(track.times) == 40


def test_two_faces_are_two_tracks_that_keep_apart() -> None:
    frames = []
    for index in range(40):
        frame = texture(*SIZE, 5)
        frame[80:270, 10 + index : 170 + index] = portrait()[30:220, 80:240]
        frame[80:270, 310 - index : 470 - index] = portrait()[30:220, 240:80:-1]
        frames.append(frame)
    tracks = follow(to_pictures(frames), Tracker(small_finder()))
    assert [len(track.times) for track in tracks] == [40, 40]
    assert len({track.index for track in tracks}) == 2
    starts = sorted(track.boxes[:, [0, 2]].mean(1)[0] for track in tracks)
    ends = sorted(track.boxes[:, [0, 2]].mean(1)[-1] for track in tracks)
    face = FACE_IN_PORTRAIT[[0, 2]].mean() - 80
    assert starts == pytest.approx([10 + face, 470 - face], abs=8)
    assert ends == pytest.approx([49 + face, 431 - face], abs=8)


def test_motion_carries_a_face_that_the_finder_misses() -> None:
    frames, truth = moving_portrait(70, 25)
    finder = ScriptedFinder(DlibFinder(sides=(640,)), blind=range(3, 6))
    (track,) = follow(to_pictures(frames), Tracker(finder))
    assert len(track.times) == 70
    gap = np.diff(np.flatnonzero(track.found)).max()
    assert gap > 2 * SEARCH_EVERY
    shares = [overlap(box, true) for box, true in zip(track.boxes, truth, strict=True)]
    assert min(shares) > 0.6


def test_motion_alone_carries_a_face_only_so_long() -> None:
    frames = still(100, seed=2)
    finder = ScriptedFinder(small_finder(), blind=range(3, 1000))
    (track,) = follow(to_pictures(frames), Tracker(finder, max_unseen=1.0))
    last_seen = track.times[np.flatnonzero(track.found)[-1]]
    assert 0.4 < track.end - last_seen <= 0.5 + 1e-6


def test_a_face_that_is_found_again_was_there_between() -> None:
    finder = ScriptedFinder(small_finder(), blind=range(3, 6))
    (track,) = follow(to_pictures(still(100, seed=2)), Tracker(finder, max_unseen=2.0))
    assert len(track.times) == 100


def test_a_face_seen_in_a_single_search_is_taken_for_a_mistake() -> None:
    frames = still(60, seed=2)
    finder = ScriptedFinder(small_finder(), blind=range(1, 1000))
    assert follow(to_pictures(frames), Tracker(finder)) == []


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_clip_of_a_few_pictures_has_its_face(count: int) -> None:
    """Shorter than the pause between two searches: one search is all there can be."""
    (track,) = follow(to_pictures(still(count, seed=2)), Tracker(small_finder()))
    assert len(track.times) == count


def test_a_face_that_appears_later_is_found_soon() -> None:
    frames = [texture(*SIZE, 3)] * 50 + still(40, seed=3)
    (track,) = follow(to_pictures(frames), Tracker(small_finder()))
    assert 2.0 - 1e-6 <= track.start <= 2.7
    assert track.end == pytest.approx(89 / 25)


def test_a_face_that_leaves_ends_its_track() -> None:
    frames = still(40, seed=3) + [texture(*SIZE, 3)] * 60
    (track,) = follow(to_pictures(frames), Tracker(small_finder()))
    assert track.end == pytest.approx(39 / 25, abs=0.05)


def test_only_the_largest_faces_are_followed() -> None:
    frame = texture(400, 640, 7)
    frame[50:350, 20:320] = portrait()
    head = portrait()[30:220, 80:240]
    frame[100 : 100 + 142, 400 : 400 + 120] = cv2.resize(
        head, (120, 142), interpolation=cv2.INTER_AREA
    )
    finder = DlibFinder(sides=(960,))
    assert len(finder.find(frame)) == 2
    tracker = Tracker(finder, max_faces=1)
    (track,) = follow(to_pictures([frame] * 20), tracker)
    assert tracker.left_out
    assert overlap(track.boxes[0], FACE_IN_PORTRAIT + np.array([20, 50, 20, 50])) > 0.6


def test_searches_are_few_while_the_face_is_in_sight() -> None:
    finder = ScriptedFinder(small_finder())
    follow(to_pictures(still(125, seed=2)), Tracker(finder))
    assert finder.whole <= 4  # five seconds, one search of the whole picture every two
    assert finder.searches - finder.whole <= 125 / SEARCH_EVERY


def test_stretches_add_up_to_the_tracks() -> None:
    """What `advance` hands out block by block is what `tracks` tells at the end."""
    tracker, told = Tracker(small_finder()), []
    pictures = to_pictures(still(28, seed=3) + still(20, seed=3, negative=True))
    for block in blocks(iter(pictures)):
        stretches: list[Stretch] = tracker.advance(block)
        for stretch in stretches:
            for picture, box in zip(stretch.pictures, stretch.boxes, strict=True):
                told.append((stretch.track, picture.time, *box))
    kept = [
        (track.index, time, *box)
        for track in tracker.tracks()
        for time, box in zip(track.times, track.boxes, strict=True)
    ]
    assert sorted(told) == sorted(kept)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["talking/grid", "talking/hdtf", "talking/retalking"])
def test_real_talking_faces_are_followed(packs: Path, folder: str) -> None:
    """A plainly visible talking face has a box on at least 95% of the clip's pictures."""
    for path in sorted((packs / folder).iterdir())[:3]:
        with Clip(path) as clip:
            seen = list(clip.pictures(SEARCH_EVERY))
        covered = {time for track in follow(seen, Tracker(DlibFinder())) for time in track.times}
        assert len(covered) >= 0.95 * len(seen), path.name
