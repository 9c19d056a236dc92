"""The three branches as onnxruntime sessions: crops or sound in, a `BranchScore` out.

Logits that leave this file are calibrated log-odds (the bundle's calibration is applied here and
nowhere else).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from avfake.bundle import Bundle
from avfake.speech import SpeechActivity
from avfake.types import FRAME_RATE, SAMPLE_RATE, BranchScore, Sound, Track, Window
from avfake.windows import repeat_to

MIN_SPEECH = 1.0  # seconds of speech in the clip without which sound is not judged
_BATCH = 16
T = TypeVar("T")


@dataclass(frozen=True)
class FaceScore:
    """One face crop's answer: its track, time in seconds and calibrated logit."""

    track: int
    time: float
    logit: float


@dataclass(frozen=True)
class SyncScore:
    """One mouth window's answer. `offset`: seconds by which the sound comes late (negative: early);
    `confidence`: how far the best alignment stands out (cosine, 0 to 2)."""

    window: Window
    offset: float
    confidence: float


class VisualBranch:
    """Face crops -> how fake the picture looks."""

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        self._session = bundle.session("visual", threads)
        self._bundle = bundle
        self.size = int(bundle.graph("visual")["size"])

    def score(self, faces: Sequence[tuple[int, float, np.ndarray]]) -> list[FaceScore]:
        """`faces`: (track, time, uint8 [size, size, 3] RGB crop) each."""
        scores: list[FaceScore] = []
        for part in _batches(faces):
            crops = np.stack([crop for _, _, crop in part])
            logits = self._session.run(["logit"], {"faces": crops})[0]
            scores += [
                FaceScore(track, time, self._bundle.calibrate("visual", float(logit)))
                for (track, time, _), logit in zip(part, logits, strict=True)
            ]
        return scores

    def activation(self, crop: np.ndarray) -> np.ndarray:
        """Class activation map of one crop: float32 [h, w]; its mean and the graph's bias sum to
        the raw logit (Zhou et al. 2016)."""
        return self._session.run(["activation"], {"faces": crop[None]})[0][0]

    def explain(self, crop: np.ndarray) -> tuple[float, np.ndarray]:
        """(calibrated logit of one crop, float32 [h, w] of which it is the mean).

        Each value is the answer for a crop that looks everywhere as this one does there.
        """
        logits, maps = self._session.run(["logit", "activation"], {"faces": crop[None]})
        logit, spread = float(logits[0]), maps[0] - maps[0].mean()
        values = [self._bundle.calibrate("visual", logit + float(value)) for value in spread.flat]
        calibrated = self._bundle.calibrate("visual", logit)
        return calibrated, np.array(values, np.float32).reshape(spread.shape)

    def summarise(
        self, scores: Sequence[FaceScore], tracks: Sequence[Track]
    ) -> tuple[BranchScore, dict[int, float]]:
        """The branch's answer and each track's, over the tracks that were kept.

        A track's logit is the mean over its crops; the clip's is that of its most suspicious track,
        because one swapped face among several makes a fake. Tracks much shorter than the longest
        are shown but do not decide.
        """
        by_track = {
            track.index: found
            for track in tracks
            if (found := [s for s in scores if s.track == track.index and s.time <= track.end])
        }
        if not by_track:
            return BranchScore.absent("no_face"), {}
        logits = {
            track: float(np.mean([s.logit for s in found])) for track, found in by_track.items()
        }
        longest = max(len(found) for found in by_track.values())
        deciding = [track for track, found in by_track.items() if len(found) >= longest / 4]
        windows = [
            window for track in tracks for window in _seconds(track, by_track.get(track.index, []))
        ]
        windows.sort(key=lambda window: (window.start, window.track))
        clip = max(logits[track] for track in deciding)
        return BranchScore("ok", logit=clip, windows=tuple(windows)), logits


class AudioBranch:
    """Speech -> how synthetic it sounds."""

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        self._session = bundle.session("audio", threads)
        self._bundle = bundle
        self._samples = int(bundle.graph("audio")["samples"])

    def score(self, sound: Sound | None, speech: SpeechActivity | None) -> BranchScore:
        """Windows of 4 s every 2 s where somebody speaks; the clip's logit is their mean, each
        window weighing as much as it holds speech."""
        if sound is None or speech is None:
            return BranchScore.absent("no_sound")
        if sound.duration < MIN_SPEECH:
            return BranchScore.absent("too_short")
        if speech.total < MIN_SPEECH:
            return BranchScore.absent("no_speech")
        length = self._samples / SAMPLE_RATE
        spans = [
            (start, end)
            for start, end in _spans(sound.start, sound.end, length, length / 2)
            if speech.between(start, end) >= min(MIN_SPEECH, 0.5 * speech.total)
        ]
        if not spans:  # a second of speech, but in crumbs
            return BranchScore.absent("no_speech")
        windows: list[Window] = []
        for part in _batches(spans):
            sounds = np.stack(
                [repeat_to(sound.between(start, end), self._samples) for start, end in part]
            )
            logits = self._session.run(["logit"], {"sound": sounds})[0]
            windows += [
                Window(start, end, self._bundle.calibrate("audio", float(logit)))
                for (start, end), logit in zip(part, logits, strict=True)
            ]
        weights = [speech.between(window.start, window.end) for window in windows]
        logit = float(np.average([window.logit for window in windows], weights=weights))
        return BranchScore("ok", logit=logit, windows=tuple(windows))


class LipSyncBranch:
    """Mouths and sound -> how badly they belong together once a constant offset is allowed for."""

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        self._session = bundle.session("lipsync", threads)
        self._bundle = bundle
        self.size = int(bundle.graph("lipsync")["size"])
        self.pictures = int(bundle.graph("lipsync")["pictures"])

    @property
    def seconds(self) -> float:
        """Length of a window."""
        return self.pictures / FRAME_RATE

    def score(
        self, clips: Sequence[tuple[int, float, np.ndarray]], sound: Sound
    ) -> list[SyncScore]:
        """`clips`: (track, start, uint8 [pictures, size, size] grey mouths) each."""
        scores: list[SyncScore] = []
        # Small batches: mouth clips are the largest inputs of all.
        for part in _batches(clips, 4):
            outputs = self._session.run(
                ["logit", "offset", "confidence"],
                {
                    "mouths": np.stack([mouths for _, _, mouths in part]),
                    "sound": np.stack(
                        [sound.between(start, start + self.seconds) for _, start, _ in part]
                    ),
                },
            )
            for (track, start, _), logit, offset, confidence in zip(part, *outputs, strict=True):
                calibrated = self._bundle.calibrate("lipsync", float(logit))
                window = Window(start, start + self.seconds, calibrated, track)
                scores.append(SyncScore(window, float(offset) / FRAME_RATE, float(confidence)))
        return scores

    def summarise(self, scores: Sequence[SyncScore], tracks: Sequence[Track]) -> BranchScore:
        """The answer for the track that fits the sound best: the one who seems to speak."""
        by_track = {
            track.index: found
            for track in tracks
            if (found := [s for s in scores if _lies_in(s.window, track)])
        }
        if not by_track:
            return BranchScore.absent("too_short")

        def mismatch(track: int) -> float:
            return float(np.mean([score.window.logit for score in by_track[track]]))

        # A listener on screen for a moment may fit by chance: the speaker is there for a while.
        longest = max(len(found) for found in by_track.values())
        speaker = min(
            (track for track, found in by_track.items() if len(found) >= longest / 2),
            key=mismatch,
        )
        found = by_track[speaker]
        details = {
            "offset_ms": 1000 * float(np.median([score.offset for score in found])),
            "confidence": float(np.mean([score.confidence for score in found])),
        }
        return BranchScore(
            "ok",
            logit=mismatch(speaker),
            windows=tuple(score.window for score in found),
            details=details,
        )


def _lies_in(window: Window, track: Track) -> bool:
    """Whether a window is of a track, and of the part of it that was kept."""
    return window.track == track.index and window.end <= track.end + 2 / FRAME_RATE


def _seconds(track: Track, scores: Sequence[FaceScore]) -> Iterator[Window]:
    """A track's crops gathered into windows of one second, none longer than the track."""
    last = track.end + 1 / FRAME_RATE if track.end > track.start else track.end
    groups: dict[int, list[FaceScore]] = {}
    for score in scores:
        groups.setdefault(int(score.time), []).append(score)
    for second, group in groups.items():
        start, end = max(float(second), track.start), min(second + 1.0, last)
        logit = float(np.mean([score.logit for score in group]))
        yield Window(start, end, logit, track.index)


def _spans(start: float, end: float, length: float, hop: float) -> list[tuple[float, float]]:
    """Spans of `length` every `hop`; the last ends with the sound; a short sound is one span."""
    if end - start <= length:
        return [(start, end)]
    starts = list(np.arange(start, end - length, hop))
    if end - length - starts[-1] > 0.25 * hop:
        starts.append(end - length)
    return [(float(first), float(first) + length) for first in starts]


def _batches(items: Sequence[T], size: int = _BATCH) -> Iterator[Sequence[T]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
