"""The API's answers, for its description. What they mean is told here once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Box = Annotated[list[float], Field(min_length=5, max_length=5)]


class Answer(BaseModel):
    """An object with exactly these fields."""

    model_config = ConfigDict(extra="forbid")


class Fault(Answer):
    """Why something was refused."""

    reason: str = Field(description="A stable code in snake_case.", examples=["not_found"])
    message: str = Field(description="One sentence.")


class Refusal(Answer):
    """What comes with every status from 400 on."""

    error: Fault


class Window(Answer):
    """A stretch of time that a branch has scored."""

    start: float = Field(description="Seconds.")
    end: float
    track: int | None = Field(description="The face that was looked at; null for sound.")
    fake_probability: Share


class Branch(Answer):
    """What one branch says."""

    status: Literal["ok", "absent", "failed"]
    reason: str | None = Field(description="Why there is no answer: `no_speech`, say.")
    fake_probability: Share | None
    windows: list[Window]
    offset_ms: float | None = Field(None, description="Lip-sync: how late the sound is.")
    confidence: float | None = Field(None, description="Lip-sync: of that offset.")


class Track(Answer):
    """One face over time."""

    track: int
    start: float = Field(description="Seconds.")
    end: float
    fake_probability: Share | None
    boxes: list[Box] = Field(
        description="[time, left, top, right, bottom]: seconds, and pixels of the upright picture."
    )


class Segment(Answer):
    """A stretch that one branch finds suspicious."""

    start: float = Field(description="Seconds.")
    end: float
    branch: str
    fake_probability: Share


class Media(Answer):
    """What the container says, checked as far as decoding went."""

    duration: float | None = Field(description="Seconds.")
    width: int | None = Field(description="Pixels, upright.")
    height: int | None
    fps: float | None
    video_codec: str | None
    audio_codec: str | None
    sample_rate: int | None = Field(description="Hz, as stored.")
    rotation: int = Field(description="Degrees clockwise that were applied.")


class Prediction(Answer):
    """The answer for a clip: what `avfake predict --json` prints."""

    path: str = Field(description="The name that the file was sent under.")
    status: Literal["ok", "abstain", "error"] = Field(
        description="`abstain`: the file is fine, but holds neither a face nor speech."
    )
    reason: str | None = Field(
        description="Why there is no score, as a code: `not_media`, `timeout`. All of them are in "
        "docs/reasons.md, which comes with avfake's source."
    )
    message: str | None = Field(description="The reason as a sentence.")
    fake_probability: Share | None = Field(description="Calibrated; null unless the status is ok.")
    verdict: Literal["likely fake", "likely real", "uncertain"] | None
    branches: dict[str, Branch] = Field(description="By name: `visual`, `audio`, `lipsync`.")
    tracks: list[Track]
    segments: list[Segment]
    media: Media | None
    warnings: list[str] = Field(description="Codes, as `truncated`: see docs/reasons.md.")
    bundle: dict[str, str] = Field(description="The models that judged; see Bundle.")
    seconds: dict[str, float] = Field(description="What each stage took.")


class Progress(Answer):
    """How far a clip's judging is."""

    stage: Literal["sound", "faces", "branches"]
    share: Share = Field(description="Of the clip's pictures that are through.")


class Playback(Answer):
    """How to play a clip."""

    url: str
    preview: bool = Field(
        description="It is a small copy, for browsers cannot play the original. Scores never come "
        "from it. It has the first ten minutes at most."
    )
    ready: bool = Field(description="False while a preview is being made: asking for it waits.")
    kind: Literal["video", "audio", "image"]


class Action(Answer):
    """What was done to a file, as its manifest says."""

    words: str
    tool: str | None
    source: str | None
    when: str | None


class Credentials(Answer):
    """What signed Content Credentials say; no score rests on them, and all texts are strangers'."""

    status: Literal["valid", "invalid", "none", "remote", "unreadable", "not_installed"]
    message: str
    signer: str | None
    organisation: str | None
    signed: str | None
    tool: str | None
    actions: list[Action]
    ingredients: int
    problems: list[str]


EXAMPLE: dict[str, Any] = {
    "id": "gJ2vPcEoWm1bT0sLr4Xk9A",
    "name": "clip.mp4",
    "size": 183204,
    "sha256": "5f2c0b4e" * 8,
    "state": "done",
    "position": None,
    "progress": None,
    "created": "2026-01-31T12:00:00.000+00:00",
    "media": {
        "url": "/v1/predictions/gJ2vPcEoWm1bT0sLr4Xk9A/media",
        "preview": False,
        "ready": True,
        "kind": "video",
    },
    "credentials": None,
    "result": {
        "path": "clip.mp4",
        "status": "ok",
        "reason": None,
        "message": None,
        "fake_probability": 0.62,
        "verdict": "uncertain",
        "branches": {
            "visual": {
                "status": "ok",
                "reason": None,
                "fake_probability": 0.62,
                "windows": [{"start": 0.0, "end": 2.0, "track": 0, "fake_probability": 0.62}],
            },
            "audio": {
                "status": "absent",
                "reason": "no_sound",
                "fake_probability": None,
                "windows": [],
            },
        },
        "tracks": [
            {
                "track": 0,
                "start": 0.0,
                "end": 2.0,
                "fake_probability": 0.62,
                "boxes": [[0.0, 412, 188, 655, 470], [0.04, 412, 189, 655, 471]],
            }
        ],
        "segments": [],
        "media": {
            "duration": 2.0,
            "width": 1920,
            "height": 1080,
            "fps": 25.0,
            "video_codec": "h264",
            "audio_codec": None,
            "sample_rate": None,
            "rotation": 0,
        },
        "warnings": [],
        "bundle": {"name": "default", "version": "0.3.0", "sha256": "9c56cc51" * 8},
        "seconds": {"decode": 0.3, "faces": 0.1, "visual": 0.1, "total": 0.5},
    },
}
"""A silent clip that is done; only its first two boxes are shown."""


class Job(Answer):
    """A clip that was sent."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    id: str
    name: str
    size: int = Field(description="Bytes.")
    sha256: str = Field(description="Of the bytes that were sent, which are those judged.")
    state: Literal["queued", "working", "done"]
    position: int | None = Field(description="In the queue; 1 is the next.")
    progress: Progress | None
    created: datetime
    result: Prediction | None = Field(description="Once the state is done.")
    media: Playback | None = Field(description="Null until it is done, or where nothing plays.")
    credentials: Credentials | None = Field(description="Null until it is done.")


class Wave(Answer):
    """The sound's lowest and highest value in each of equal stretches of time."""

    start: float
    end: float
    low: list[float]
    high: list[float]


class Bundle(Answer):
    """The models that judge."""

    name: str
    version: str
    sha256: str


class Thresholds(Answer):
    """Probabilities from which a verdict is given."""

    likely_real: Share
    likely_fake: Share


class Bounds(Answer):
    """What one file may ask for; null for no bound."""

    bytes: int
    seconds: float | None
    pixels: int
    decode_seconds: float | None
    timeout: float = Field(description="Seconds for judging one clip.")


class About(Answer):
    """This server."""

    version: str
    bundle: Bundle
    shipped: bool = Field(description="Whether these models are those that come with avfake.")
    thresholds: Thresholds
    limits: Bounds
    workers: int = Field(description="Clips that are judged side by side.")
    queue: int = Field(description="Clips that may wait.")
    keep: float = Field(description="Seconds that a clip outlives the last question about it.")


class Health(Answer):
    """All is well."""

    status: Literal["ok"]
