"""What travels between the stages: frozen dataclasses, no I/O, no models.

Conventions, everywhere in avfake: fake = 1; logits inside, probabilities at the edge; time is
seconds on the clip's own clock (pts), never a frame index; boxes are (left, top, right, bottom)
in pixels of the upright picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

BRANCHES = ("visual", "audio", "lipsync")
SAMPLE_RATE = 16_000
"""Hz of every sound inside avfake (mono, float32 in [-1, 1])."""
FRAME_RATE = 25.0
"""Pictures a second on which tracks and lip-sync live."""

SUSPICIOUS = 0.7
"""Probability from which a stretch of time is pointed out: windows err more often than clips."""
WEAK_MATCH = 0.1
"""Lip-sync's confidence below which its offset may be any: no alignment stands out."""
REASONS = {
    "no_face": "no face found",
    "no_picture": "no picture",
    "no_sound": "no sound",
    "no_speech": "no speech heard",
    "too_short": "too short to judge",
    "inference_error": "failed; --verbose tells the cause",
}
"""Why a branch has no answer, in words."""


class AvfakeError(Exception):
    """A fault that is the input's or the set-up's, told in one sentence for the user.

    `reason` is a stable snake_case code; `str(error)` is the sentence.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[AvfakeError], tuple[str, str]]:
        # Exceptions pickle their message alone: this one could not come back from a worker.
        return AvfakeError, (self.reason, str(self))


@dataclass(frozen=True)
class MediaInfo:
    """What the container says, checked as far as decoding went."""

    duration: float | None  # seconds
    width: int | None  # pixels, upright
    height: int | None
    fps: float | None
    video_codec: str | None
    audio_codec: str | None
    sample_rate: int | None  # Hz, as stored
    rotation: int = 0  # degrees clockwise, applied before anything sees a picture
    is_image: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {
            "duration": _rounded(self.duration, 3),
            "width": self.width,
            "height": self.height,
            "fps": _rounded(self.fps, 3),
            "video_codec": self.video_codec,
            "audio_codec": self.audio_codec,
            "sample_rate": self.sample_rate,
            "rotation": self.rotation,
        }


@dataclass(frozen=True)
class Sound:
    """Mono sound on the clip's clock.

    `samples`: float32 [n] in [-1, 1] at 16 kHz; `start`: time in seconds of `samples[0]`, so that
    the offset between sound and picture survives (it may be negative or positive).
    """

    samples: np.ndarray
    start: float = 0.0

    def __post_init__(self) -> None:
        if self.samples.ndim != 1 or self.samples.dtype != np.float32:
            raise ValueError("Sound.samples must be one-dimensional float32")

    @property
    def duration(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    @property
    def end(self) -> float:
        return self.start + self.duration

    def between(self, start: float, end: float) -> np.ndarray:
        """Samples of [start, end) seconds; silence (zeros) where the sound does not reach."""
        count = round((end - start) * SAMPLE_RATE)
        first = round((start - self.start) * SAMPLE_RATE)
        window = np.zeros(count, np.float32)
        low, high = max(first, 0), min(first + count, len(self.samples))
        if high > low:
            window[low - first : high - first] = self.samples[low:high]
        return window


@dataclass(frozen=True)
class Detection:
    """One face in one picture.

    `box`: float32 [4]; `points`: float32 [5, 2] (right eye, left eye, nose, right and left mouth
    corner, as the person has them) or None where a finder gives none; `score` in [0, 1].
    """

    box: np.ndarray
    score: float
    points: np.ndarray | None = None


@dataclass(frozen=True)
class Track:
    """One face over time.

    `times`: float64 [n] seconds, rising; `boxes`: float32 [n, 4]; `found`: bool [n], True where the
    finder saw the face and False where motion or interpolation carried it.
    """

    index: int
    times: np.ndarray
    boxes: np.ndarray
    found: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.times) == len(self.boxes) == len(self.found):
            raise ValueError("a track needs one time, one box and one flag a frame")

    @property
    def start(self) -> float:
        return float(self.times[0])

    @property
    def end(self) -> float:
        return float(self.times[-1])


@dataclass(frozen=True)
class Progress:
    """How far a clip's judging is.

    `stage`: "sound" (it is decoded), "faces" (pictures are decoded, faces found and followed, while
    the branches look at what is there already), "branches" (their last answers are awaited);
    `share` of the clip's pictures that are through, in [0, 1].
    """

    stage: str
    share: float


Tell = Callable[[Progress], None]
"""What hears how far a clip's judging is."""


@dataclass(frozen=True)
class Window:
    """A scored stretch of time. `track` is None for sound."""

    start: float
    end: float
    logit: float
    track: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "track": self.track,
            "fake_probability": probability(self.logit),
        }


@dataclass(frozen=True)
class BranchScore:
    """What one branch answers.

    `status`: "ok"; "absent" (nothing to judge, `reason` says what is missing); "failed" (the
    branch broke, `reason` says how). `logit` is a number exactly when the status is "ok".
    `details` holds the branch's own measurements (lip-sync: offset_ms, confidence).
    """

    status: str
    reason: str | None = None
    logit: float | None = None
    windows: tuple[Window, ...] = ()
    details: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in ("ok", "absent", "failed"):
            raise ValueError(f"unknown branch status {self.status!r}")
        if (self.status == "ok") != (self.logit is not None):
            raise ValueError("a branch has a logit exactly when it is ok")
        if self.logit is not None and not math.isfinite(self.logit):
            raise ValueError("a branch logit must be finite")

    @classmethod
    def absent(cls, reason: str) -> BranchScore:
        return cls("absent", reason)

    @classmethod
    def failed(cls, reason: str) -> BranchScore:
        return cls("failed", reason)

    def note(self) -> str:
        """The reason in words, or what lip-sync measured; empty where there is nothing to add."""
        if self.reason is not None:
            return REASONS.get(self.reason, self.reason)
        if "offset_ms" not in self.details:
            return ""
        offset = self.details["offset_ms"]
        side = "late" if offset > 0 else "early"
        when = f"sound {abs(offset):.0f} ms {side}" if abs(offset) >= 20 else "sound in step"
        return f"{when} (weak match)" if self.details["confidence"] < WEAK_MATCH else when

    def to_dict(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "reason": self.reason,
            "fake_probability": None if self.logit is None else probability(self.logit),
            **{name: _rounded(value, 3) for name, value in self.details.items()},
            "windows": [window.to_dict() for window in self.windows],
        }


@dataclass(frozen=True)
class Segment:
    """A stretch that one branch finds likely fake; `logit` is the mean over its windows."""

    start: float
    end: float
    branch: str
    logit: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "branch": self.branch,
            "fake_probability": probability(self.logit),
        }


@dataclass(frozen=True)
class Prediction:
    """The answer for one file.

    `status`: "ok"; "abstain" (the file is fine, but nothing in it can be judged); "error" (the file
    could not be judged). `reason` is a code and `message` its sentence, both None when ok.
    `logit` and `verdict` ("likely fake", "likely real", "uncertain") exist exactly when ok.
    """

    path: str
    status: str
    reason: str | None = None
    message: str | None = None
    logit: float | None = None
    verdict: str | None = None
    branches: Mapping[str, BranchScore] = field(default_factory=dict)
    tracks: tuple[Track, ...] = ()
    track_logits: Mapping[int, float] = field(default_factory=dict)
    segments: tuple[Segment, ...] = ()
    media: MediaInfo | None = None
    warnings: tuple[str, ...] = ()
    bundle: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in ("ok", "abstain", "error"):
            raise ValueError(f"unknown prediction status {self.status!r}")
        if (self.status == "ok") != (self.logit is not None):
            raise ValueError("a prediction has a probability exactly when it is ok")

    @property
    def fake_probability(self) -> float | None:
        """Calibrated probability in [0, 1] that the clip is fake; None unless ok."""
        return None if self.logit is None else probability(self.logit)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what `avfake predict --json` prints."""
        return {
            "path": self.path,
            "status": self.status,
            "reason": self.reason,
            "message": self.message,
            "fake_probability": self.fake_probability,
            "verdict": self.verdict,
            "branches": {name: score.to_dict() for name, score in self.branches.items()},
            "tracks": [self._track_to_dict(track) for track in self.tracks],
            "segments": [segment.to_dict() for segment in self.segments],
            "media": None if self.media is None else self.media.to_dict(),
            "warnings": list(self.warnings),
            "bundle": dict(self.bundle),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }

    def _track_to_dict(self, track: Track) -> dict[str, Any]:
        logit = self.track_logits.get(track.index)
        # A face that is cut off by the picture's edge has a box that reaches beyond it.
        boxes = track.boxes
        if self.media is not None and self.media.width and self.media.height:
            edge = [self.media.width, self.media.height] * 2
            boxes = np.clip(boxes, 0, edge)
        return {
            "track": track.index,
            "start": round(track.start, 3),
            "end": round(track.end, 3),
            "fake_probability": None if logit is None else probability(logit),
            "boxes": [
                [round(float(time), 3), *(round(float(v)) for v in box)]
                for time, box in zip(track.times, boxes, strict=True)
            ],
        }

    def __str__(self) -> str:
        if self.logit is None:
            return f"{self.path}: {self.status}: {self.message}"
        share = percent(probability(self.logit))
        lines = [f"{self.path}: {self.verdict} (probability of a fake {share})"]
        for name, score in self.branches.items():
            value = "-" if score.logit is None else percent(probability(score.logit))
            lines.append(f"  {name:8s} {value:>8s}  {score.note()}".rstrip())
        lines += [f"  warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)


def probability(logit: float) -> float:
    """Logistic function, without overflow, rounded to 4 places (what a user reads)."""
    if logit >= 0:
        return round(1.0 / (1.0 + math.exp(-logit)), 4)
    odds = math.exp(logit)
    return round(odds / (1.0 + odds), 4)


def percent(value: float) -> str:
    """A probability as people read it: whole per cent, never none and never all of them."""
    if value < 0.01:
        return "under 1%"
    if value > 0.99:
        return "over 99%"
    return f"{(round(10_000 * value) + 50) // 100}%"  # halves go up, as in the browser


def _rounded(value: float | None, places: int) -> float | None:
    return None if value is None else round(float(value), places)
