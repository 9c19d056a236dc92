"""What worker processes do for the server. A task is a function of what its process has loaded.

The server itself imports this, too, and must not load a decoder for it: tasks import what they use.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avfake.types import AvfakeError, Prediction, Sound, Tell, probability

if TYPE_CHECKING:
    from avfake.credentials import Credentials
    from avfake.detector import Detector

SPECTROGRAM = (4000, 160)
"""Pixels of the spectrogram, width and height: the timeline zooms into it as into the waveform."""


@dataclass(frozen=True)
class Facts:
    """What the models say of themselves."""

    bundle: dict[str, str]
    shipped: bool
    thresholds: dict[str, float]


@dataclass(frozen=True)
class Playback:
    """How a browser gets a clip. `kind`: "video", "audio" or "image"; `type`: media type of the
    original where browsers play it, None where they need a preview."""

    kind: str
    type: str | None


@dataclass(frozen=True)
class Judged:
    """A clip's answer. `prediction`: as it was made; `text`: for the client, as JSON, with the
    client's own name for the file; `playback`: how a browser plays it, None where nothing plays."""

    prediction: Prediction
    text: bytes
    playback: Playback | None


def judging(load: Callable[[], Detector], tell: Tell) -> Callable[[Any], Any]:
    """Set up a process that judges clips and tells how far it is."""
    detector = load()
    return lambda task: task(detector, tell)


def viewing(load: Callable[[], Detector]) -> Callable[[Any], Any]:
    """Set up a process that makes pictures of what an answer rests on.

    A fault of the question (AvfakeError) is an answer, too.
    """
    detector = load()

    def handle(task: Callable[[Detector], Any]) -> Any:
        try:
            return task(detector)
        except AvfakeError as error:
            return error

    return handle


def copying() -> Callable[[Any], Any]:
    """Set up a process that makes previews: it loads no models."""
    return lambda task: task()


def facts(detector: Detector, tell: Tell) -> Facts:
    bundle = detector.bundle
    thresholds = {name: bundle.threshold(name) for name in ("likely_real", "likely_fake")}
    return Facts(bundle.to_dict(), bundle.shipped, thresholds)


def judge(path: Path, name: str, detector: Detector, tell: Tell) -> Judged:
    """Judge a stored clip. `name`: what the client calls it."""
    prediction = detector.predict(path, tell=tell)
    playback = None
    if prediction.media is not None:
        from avfake.serve.playback import playback_of

        playback = playback_of(path, prediction.media)
    return Judged(prediction, as_json(prediction, name), playback)


def as_json(prediction: Prediction, name: str) -> bytes:
    """A prediction as the client gets it: nothing in it tells where its file lies."""
    return json.dumps(replace(renamed(prediction, name), path=name).to_dict()).encode()


def renamed(prediction: Prediction, name: str) -> Prediction:
    """The same, with the client's name for the file in its message."""
    if prediction.message is None:
        return prediction
    stored = Path(prediction.path).name
    return replace(prediction, message=prediction.message.replace(stored, name))


def preview(path: Path, out: Path) -> None:
    from avfake.serve.playback import write_preview

    write_preview(path, out)


def heat_map(
    track: int, time: float, prediction: Prediction, detector: Detector
) -> tuple[bytes, float, float]:
    """(PNG, seconds, fake probability) of the picture of a face that is nearest in time."""
    from avfake.evidence import encode_png, moment_at

    moment = moment_at(prediction.path, prediction, detector, track, time)
    return encode_png(moment.heat), moment.time, probability(moment.logit)


def spectrogram_png(prediction: Prediction, detector: Detector) -> bytes:
    from avfake.evidence import encode_png, spectrogram

    return encode_png(spectrogram(_sound(prediction, detector), *SPECTROGRAM))


def wave(columns: int, prediction: Prediction, detector: Detector) -> dict[str, Any]:
    from avfake.evidence import waveform

    sound = _sound(prediction, detector)
    low, high = waveform(sound, columns).astype(float).round(4).T.tolist()
    return {"start": sound.start, "end": round(sound.end, 3), "low": low, "high": high}


def report(
    name: str, credentials: Credentials | None, prediction: Prediction, detector: Detector
) -> str:
    """HTML. `name`: what the client calls the file."""
    from avfake.html import report_html

    return report_html(renamed(prediction, name), detector, name, credentials)


def _sound(prediction: Prediction, detector: Detector) -> Sound:
    """A clip's sound from second 0 to its duration, silence where it has none."""
    from avfake.media import Clip

    with Clip(prediction.path, limits=detector.limits) as clip:
        sound = clip.sound()
        duration = clip.info.duration
    if sound is None:
        raise AvfakeError("no_sound", f"{clip.path.name} has no sound.")
    return Sound(sound.between(0.0, min(duration or sound.end, detector.limits.seconds)), 0.0)
