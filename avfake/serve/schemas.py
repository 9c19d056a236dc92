"""The API's answers, for its description. What they mean is told here once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

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
    reason: str | None = Field(description="Why there is no answer, as a code.")
    fake_probability: Share | None
    windows: list[Window]
    offset_ms: float | None = Field(None, description="Lip-sync: how late the sound is.")
    confidence: float | None = Field(None, description="Lip-sync: of that offset.")


class Track(Answer):
    """One face over time."""

    track: int
    start: float
    end: float
    fake_probability: Share | None
    boxes: list[Box] = Field(
        description="[time, left, top, right, bottom]: seconds, and pixels of the upright picture."
    )


class Segment(Answer):
    """A stretch that one branch finds suspicious."""

    start: float
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
    status: Literal["ok", "abstain", "error"]
    reason: str | None
    message: str | None
    fake_probability: Share | None = Field(description="Calibrated; null unless the status is ok.")
    verdict: Literal["likely fake", "likely real", "uncertain"] | None
    branches: dict[str, Branch]
    tracks: list[Track]
    segments: list[Segment]
    media: Media | None
    warnings: list[str]
    bundle: dict[str, str]
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


class Job(Answer):
    """A clip that was sent."""

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
    credentials: dict[str, object] | None = Field(
        description="What signed Content Credentials say, if the file has any."
    )


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
    thresholds: Thresholds
    limits: Bounds
    workers: int = Field(description="Clips that are judged side by side.")
    queue: int = Field(description="Clips that may wait.")
    keep: float = Field(description="Seconds that a clip outlives the last question about it.")


class Health(Answer):
    """All is well."""

    status: Literal["ok"]
