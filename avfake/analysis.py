"""One clip from the file to its branches' scores, each picture and each sample decoded once.

Decoding runs in a thread of its own and the branches in another, while this one finds, follows and
cuts faces; FFmpeg, OpenCV and onnxruntime all let go of Python's lock. Only the last few seconds of
pictures are held, and crops until their branch has seen them.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from avfake.branches import (
    MIN_SPEECH,
    AudioBranch,
    FaceScore,
    LipSyncBranch,
    SyncScore,
    VisualBranch,
)
from avfake.crops import face_crop, mouth_crop
from avfake.limits import is_memory_fault
from avfake.media import Clip
from avfake.pictures import Picture
from avfake.speech import SpeechActivity
from avfake.tracks import SEARCH_EVERY, Stretch, Tracker, blocks
from avfake.types import AvfakeError, BranchScore, Progress, Sound, Tell, Track

MIN_SPEECH_IN_WINDOW = 0.8  # seconds of speech without which a mouth window is not judged
_FACES_A_JOB = 16

T = TypeVar("T")
log = logging.getLogger(__name__)


class Analysis:
    """One clip on its way through the branches, once.

    `run` fills `seconds` (stage -> seconds it took, on its own thread) and `track_logits`.
    """

    def __init__(
        self,
        clip: Clip,
        tracker: Tracker,
        visual: VisualBranch,
        audio: AudioBranch,
        lipsync: LipSyncBranch,
        tell: Tell,
    ) -> None:
        self._clip = clip
        self._tell = tell
        self._tracker = tracker
        self._visual = visual
        self._audio = audio
        self._lipsync = lipsync
        self._pool = ThreadPoolExecutor(1, "avfake-branches")
        self._sound: Sound | None = None
        self._speech: SpeechActivity | None = None
        self._crops: list[tuple[int, float, np.ndarray]] = []
        self._mouths: dict[int, _Mouth] = {}
        self._face_jobs: list[Future[list[FaceScore]]] = []
        self._sync_jobs: list[Future[list[SyncScore]]] = []
        self._pictures_seen = 0
        self.seconds: dict[str, float] = {}
        self.track_logits: dict[int, float] = {}

    def run(self) -> dict[str, BranchScore]:
        """Decode the clip once and let every branch answer: its name -> its score.

        Raises AvfakeError where the clip cannot be decoded or goes beyond its limits.
        """
        with self._pool:
            self._tell(Progress("sound", 0.0))
            with self._timed("decode"):
                self._sound = self._clip.sound()
            if self._sound is not None:
                self._speech = SpeechActivity(self._sound)
            audio_job = self._submit("audio", self._audio.score, self._sound, self._speech)
            for block in blocks(_ahead(self._timed_pictures())):
                self._pictures_seen += len(block)
                self._tell(Progress("faces", self._clip.share(block[-1].time)))
                with self._timed("faces"):
                    for stretch in self._tracker.advance(block):
                        self._cut(stretch)
            self._send_faces()
            for track, mouth in self._mouths.items():
                self._send_mouths(track, mouth.rest())
            self._tell(Progress("branches", 1.0))
            kept = self._tracker.tracks()
            scores = {
                "visual": _settled(lambda: self._visual_score(kept)),
                "audio": _settled(audio_job.result),
                "lipsync": _settled(lambda: self._lipsync_score(kept)),
            }
        if self._sound is None and self._pictures_seen == 0:
            raise AvfakeError(
                "nothing_decoded", f"Nothing in {self._clip.path.name} could be decoded."
            )
        return scores

    def _timed_pictures(self) -> Iterator[Picture]:
        pictures = self._clip.pictures(SEARCH_EVERY)
        while True:
            with self._timed("decode"):
                picture = next(pictures, None)
            if picture is None:
                return
            yield picture

    def _cut(self, stretch: Stretch) -> None:
        """Cut what the branches need out of one piece of a track, and send what is complete."""
        mouth = None
        if self._speech is not None and self._speech.total >= MIN_SPEECH:
            mouth = self._mouths.setdefault(stretch.track, _Mouth(self._lipsync.pictures))
        for picture, box in zip(stretch.pictures, stretch.boxes, strict=True):
            if mouth is not None:
                crop = mouth_crop(picture.luma, box / picture.scale, self._lipsync.size)
                self._send_mouths(stretch.track, mouth.add(picture.time, crop))
            if picture.colour is not None:
                crop = face_crop(picture.colour, box / picture.colour_scale, self._visual.size)
                self._crops.append((stretch.track, picture.time, crop))
        if len(self._crops) >= _FACES_A_JOB:
            self._send_faces()

    def _send_faces(self) -> None:
        if self._crops:
            self._face_jobs.append(self._submit("visual", self._visual.score, self._crops))
            self._crops = []

    def _send_mouths(self, track: int, clips: list[tuple[float, np.ndarray]]) -> None:
        assert self._speech is not None
        assert self._sound is not None
        spoken = [
            (track, start, mouths)
            for start, mouths in clips
            if self._speech.between(start, start + self._lipsync.seconds) >= MIN_SPEECH_IN_WINDOW
        ]
        if spoken:
            job = self._submit("lipsync", self._lipsync.score, spoken, self._sound)
            self._sync_jobs.append(job)

    def _visual_score(self, kept: Sequence[Track]) -> BranchScore:
        if not self._clip.has_picture:
            return BranchScore.absent("no_picture")
        faces = [score for job in self._face_jobs for score in job.result()]
        score, self.track_logits = self._visual.summarise(faces, kept)
        return score

    def _lipsync_score(self, kept: Sequence[Track]) -> BranchScore:
        if not self._clip.has_picture:
            return BranchScore.absent("no_picture")
        if self._sound is None:
            return BranchScore.absent("no_sound")
        if not kept:
            return BranchScore.absent("no_face")
        if self._speech is None or self._speech.total < MIN_SPEECH:
            return BranchScore.absent("no_speech")
        syncs = [score for job in self._sync_jobs for score in job.result()]
        return self._lipsync.summarise(syncs, kept)

    def _submit(self, stage: str, work: Callable[..., T], *arguments: Any) -> Future[T]:
        def timed() -> T:
            with self._timed(stage):
                return work(*arguments)

        return self._pool.submit(timed)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent


class _Mouth:
    """One track's mouth crops, gathered into windows, one after the other."""

    def __init__(self, pictures: int) -> None:
        self._times: deque[float] = deque(maxlen=pictures)
        self._crops: deque[np.ndarray] = deque(maxlen=pictures)
        self._pictures = pictures
        self._due = pictures  # crops until the next window is complete

    def add(self, time: float, crop: np.ndarray) -> list[tuple[float, np.ndarray]]:
        """The window that this crop completes, if any: (start, uint8 [pictures, size, size])."""
        self._times.append(time)
        self._crops.append(crop)
        self._due -= 1
        if self._due > 0:
            return []
        self._due = self._pictures
        return [(self._times[0], np.stack(self._crops))]

    def rest(self) -> list[tuple[float, np.ndarray]]:
        """A last window, back from the end, where a fifth of it and more is in no other."""
        fresh = self._pictures - self._due
        if len(self._crops) < self._pictures or fresh <= self._pictures / 5:
            return []
        return [(self._times[0], np.stack(self._crops))]


def _settled(answer: Callable[[], BranchScore]) -> BranchScore:
    """A branch that breaks is reported as failed and costs the others nothing."""
    try:
        return answer()
    except Exception as error:
        if is_memory_fault(error):
            raise  # what the others say must not depend on how much memory there was
        log.exception("a branch failed")
        return BranchScore.failed("inference_error")


def _ahead(items: Iterator[T], depth: int = 24) -> Iterator[T]:
    """The same items, made in a thread of their own, at most `depth` ahead."""
    line: queue.Queue[Any] = queue.Queue(depth)
    stop = threading.Event()
    end = object()

    def put(item: Any) -> None:
        while not stop.is_set():
            try:
                return line.put(item, timeout=0.1)
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(end)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=produce, name="avfake-decode", daemon=True)
    thread.start()
    try:
        while (item := line.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
