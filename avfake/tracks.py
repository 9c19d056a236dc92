"""Faces over time: the finder looks now and then, motion carries the boxes between.

The clip arrives in blocks: the pictures from one search to the next. Within a block each face is
followed by sparse optical flow (Lucas-Kanade, checked forwards and backwards as in Kalal et al.
2010, "Forward-backward error"); at the block's end the finder corrects the drift, and the
correction is spread over the block. So every picture gets a box at a fraction of a detector's cost,
and only the last second or so of pictures is held.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from avfake.crops import box_size
from avfake.faces import FaceFinder, find_near, overlap
from avfake.pictures import Picture
from avfake.types import Track

SEARCH_EVERY = 10  # pictures between two searches (0.4 s at 25 a second)
_CARRIED = 0.5  # seconds at a track's end for which motion alone is believed
_FOLLOW_SIZE = 64  # pixels of a face's size in the flow windows


@dataclass(frozen=True)
class Stretch:
    """The next piece of one track.

    `track`: its number; `pictures`: n in a row, the first right after the track's last piece (a new
    track may reach back before the block); `boxes`: float32 [n, 4] in original pixels; `found`:
    bool [n].
    """

    track: int
    pictures: Sequence[Picture]
    boxes: np.ndarray
    found: np.ndarray


@dataclass
class _Alive:
    """A track that may go on: its last box and how long ago the finder confirmed it."""

    track: int
    box: np.ndarray
    unseen: float = 0.0
    times: list[float] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)


def blocks(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """Group pictures so that each block ends with one in colour (the last block may not)."""
    block: list[Picture] = []
    for picture in pictures:
        block.append(picture)
        if picture.colour is not None:
            yield block
            block = []
    if block:
        yield block


class Tracker:
    """Follows all faces through a clip, block by block.

    `max_unseen`: seconds for which motion alone may carry a face that the finder no longer
    sees (a turned head, a hand before the mouth); `search_all_every`: seconds between searches of
    the whole picture while every known face is still being seen; `max_faces`: so many are followed
    at a time, larger ones first where several are found at once, and `left_out` becomes true where
    there are more; `reach_back`: pictures for which a face that is found at
    last is followed back in time, because it was there before (turned away, or small).
    """

    def __init__(
        self,
        finder: FaceFinder,
        max_unseen: float = 2.0,
        search_all_every: float = 2.0,
        max_faces: int = 4,
        reach_back: int = 32,
    ) -> None:
        self._finder = finder
        self._max_unseen = max_unseen
        self._search_all_every = search_all_every
        self._max_faces = max_faces
        self._alive: list[_Alive] = []
        self._ended: list[_Alive] = []
        self._count = 0
        self.left_out = False
        # Pictures before the block, back to the last scene cut.
        self._past: deque[Picture] = deque(maxlen=reach_back)
        self._searches = 0
        self._searched = -np.inf  # when the whole picture was last searched

    def advance(self, block: Sequence[Picture]) -> list[Stretch]:
        """Follow the faces through the next block; return where they are in it."""
        self._searches += block[-1].colour is not None
        before = [self._last, *block[:-1]]
        cuts = [i for i, p in enumerate(block) if _is_cut(before[i], p)]
        stretches: list[Stretch] = []
        for face in list(self._alive):
            path = _follow(face.box, [p for p in (self._last, *block) if p is not None])
            if cuts or len(path) < len(block):
                # The face is lost within the block: cut away, hidden or gone.
                stretches += self._end(face, block, path[: cuts[0]] if cuts else path)
            else:
                stretches += self._correct(face, block, path)
        scene = [*self._past, *block]
        if cuts:
            self._past.clear()
            scene = list(block[cuts[-1] :])
        if block[-1].colour is not None and self._should_search(block[-1], bool(cuts)):
            stretches += self._find_new(scene)
        self._past.extend(scene)
        return stretches

    @property
    def _last(self) -> Picture | None:
        return self._past[-1] if self._past else None

    def tracks(self) -> list[Track]:
        """All tracks so far that are worth a score, in order of appearance.

        A face that the finder saw in only one of several searches is taken for a mistake. Where
        motion alone carried a face at last, the track ends half a second after it was last found:
        beyond that nobody knows that it was still a face.
        """
        everything = sorted([*self._ended, *self._alive], key=lambda face: face.track)
        return [
            _trimmed(
                Track(face.track, np.array(face.times), np.array(face.boxes), np.array(face.found))
            )
            for face in everything
            if sum(face.found) > 1 or self._searches == 1
        ]

    def _correct(
        self, face: _Alive, block: Sequence[Picture], path: list[np.ndarray]
    ) -> list[Stretch]:
        """Let the finder confirm a followed face at the block's end."""
        last = block[-1]
        found = np.zeros(len(block), bool)
        boxes = np.array(path, np.float32)
        if last.colour is not None:
            ratio = last.colour_scale
            seen = find_near(self._finder, last.colour, boxes[-1] / ratio)
            if seen is not None:
                # Half the way only: a finder's boxes jump by steps of their scale pyramid.
                drift = 0.5 * (seen.box * ratio - boxes[-1])
                boxes += np.linspace(0, 1, len(block) + 1)[1:, None].astype(np.float32) * drift
                found[-1] = True
                face.unseen = 0.0
        if not found[-1]:
            since = last.time - (self._last.time if self._last is not None else last.time)
            face.unseen += since
            if face.unseen > self._max_unseen:
                return self._end(face, block, [])
        return [self._extend(face, block, boxes, found)]

    def _find_new(self, scene: Sequence[Picture]) -> list[Stretch]:
        """Search the whole of the last picture; follow new faces back through the scene."""
        last = scene[-1]
        assert last.colour is not None
        self._searched = last.time
        stretches = []
        found = sorted(self._finder.find(last.colour), key=lambda d: -box_size(d.box))
        for seen in found:
            box = seen.box * last.colour_scale
            if any(overlap(box, face.box) > 0.2 for face in self._alive):
                continue
            if len(self._alive) >= self._max_faces:
                self.left_out = True
                break
            back = _follow(box, self._unclaimed(scene, box))
            boxes = np.array([*reversed(back), box], np.float32)
            flags = np.zeros(len(boxes), bool)
            flags[-1] = True
            face = _Alive(self._count, box)
            self._count += 1
            self._alive.append(face)
            stretches.append(self._extend(face, scene[-len(boxes) :], boxes, flags))
        return stretches

    def _unclaimed(self, scene: Sequence[Picture], box: np.ndarray) -> list[Picture]:
        """The scene backwards in time, as far as no ended track was at this place."""
        ends = [
            face.times[-1]
            for face in self._ended
            if face.times and face.times[-1] >= scene[0].time and overlap(box, face.box) > 0.2
        ]
        since = max(ends, default=-np.inf)
        return [picture for picture in reversed(scene) if picture.time > since]

    def _should_search(self, picture: Picture, after_cut: bool) -> bool:
        waited = picture.time - self._searched
        doubtful = not self._alive or any(face.unseen > 0 for face in self._alive)
        # With nobody in sight every second search is of the whole picture: it is the dear one.
        pause = 0.6 if doubtful else self._search_all_every
        return after_cut or waited >= pause

    def _extend(
        self, face: _Alive, pictures: Sequence[Picture], boxes: np.ndarray, found: np.ndarray
    ) -> Stretch:
        face.box = boxes[-1]
        face.times += [picture.time for picture in pictures]
        face.boxes += list(boxes)
        face.found += list(found)
        return Stretch(face.track, pictures, boxes, found)

    def _end(self, face: _Alive, block: Sequence[Picture], path: list[np.ndarray]) -> list[Stretch]:
        self._alive.remove(face)
        self._ended.append(face)
        if not path:
            return []
        boxes = np.array(path, np.float32)
        return [self._extend(face, block[: len(boxes)], boxes, np.zeros(len(boxes), bool))]


def _trimmed(track: Track) -> Track:
    """The track without what motion carried for more than half a second at its end."""
    seen = track.times[np.flatnonzero(track.found)[-1]]
    keep = track.times <= seen + _CARRIED
    return Track(track.index, track.times[keep], track.boxes[keep], track.found[keep])


def _follow(box: np.ndarray, pictures: Sequence[Picture]) -> list[np.ndarray]:
    """The box in pictures[1:], as far as it can be followed from pictures[0]."""
    path: list[np.ndarray] = []
    for here, there in itertools.pairwise(pictures):
        moved = _flow(box, here, there)
        if moved is None:
            break
        box = moved
        path.append(box)
    return path


def _flow(box: np.ndarray, here: Picture, there: Picture) -> np.ndarray | None:
    """`box` moved by the median flow of the face from one picture to the next, None if lost.

    Works on a window of two face sizes, scaled so that the face is 64 px: large and small faces
    cost the same.
    """
    if here.luma is there.luma:
        return box
    if there.luma.shape != here.luma.shape:
        return None
    size = box_size(box) / here.scale
    if size < 8:
        return None
    # The smallest level on which the face still has 64 px, then the rest of the way.
    level = int(np.clip(np.log2(size / _FOLLOW_SIZE), 0, 2))
    size = size / 2**level
    scale = here.scale * 2**level
    centre = (box[:2] + box[2:]) / 2 / scale
    one, other = here.levels[level], there.levels[level]
    height, width = one.shape
    left, top = (int(max(0, v)) for v in np.floor(centre - size))
    right, bottom = int(min(width, centre[0] + size)), int(min(height, centre[1] + size))
    if right - left < 8 or bottom - top < 8:
        return None
    factor = min(1.0, _FOLLOW_SIZE / size)
    one, other = (
        cv2.resize(window[top:bottom, left:right], None, fx=factor, fy=factor)
        for window in (one, other)
    )
    grid = np.linspace(-0.4, 0.4, 7)
    start = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2) * size + centre
    start = ((start - (left, top)) * factor).astype(np.float32)[:, None]
    moved, ok, back, ok_back = _there_and_back(one, other, start)
    error = np.linalg.norm(back - start, axis=2)[:, 0]
    good = (ok[:, 0] > 0) & (ok_back[:, 0] > 0) & (error < 1.0)
    if good.sum() < 12:
        return None
    a, b = start[good, 0], moved[good, 0]
    shift = np.median(b - a, axis=0) / factor
    # The change of scale: the median ratio of the points' distances from their middle.
    reach = np.linalg.norm(a - np.median(a, axis=0), axis=1)
    far = reach > 0.15 * _FOLLOW_SIZE * min(1.0, size / _FOLLOW_SIZE)
    growth = 1.0
    if far.sum() >= 6:
        reached = np.linalg.norm(b - np.median(b, axis=0), axis=1)
        growth = float(np.clip(np.median(reached[far] / reach[far]), 0.95, 1.05))
    middle = (centre + shift) * scale
    half = (box[2:] - box[:2]) / 2 * growth
    return np.concatenate([middle - half, middle + half]).astype(np.float32)


def _there_and_back(
    one: np.ndarray, other: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lucas-Kanade forwards and backwards: where the points go and where they come back to."""
    size, levels = (11, 11), 2
    moved, ok, _ = cv2.calcOpticalFlowPyrLK(
        one, other, points, np.empty_like(points), winSize=size, maxLevel=levels
    )
    back, ok_back, _ = cv2.calcOpticalFlowPyrLK(
        other, one, moved, np.empty_like(points), winSize=size, maxLevel=levels
    )
    return np.asarray(moved), np.asarray(ok), np.asarray(back), np.asarray(ok_back)


def _is_cut(before: Picture | None, after: Picture) -> bool:
    """Whether the scene changes between two pictures: most of the frame differs at once."""
    if before is None or before.luma is after.luma:
        return False
    one, other = before.thumbnail, after.thumbnail
    # Without their means: a flash or a fade alone is no cut.
    difference = np.abs((one - one.mean()) - (other - other.mean())).mean()
    return bool(difference > 0.6 * min(one.std(), other.std()) + 6)
