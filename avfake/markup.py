"""The clip again, with a box round every face and its probability over it (extra `report`)."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avfake.limits import DEFAULT_LIMITS, Limits
from avfake.media import Clip
from avfake.types import (
    FRAME_RATE,
    SAMPLE_RATE,
    SUSPICIOUS,
    AvfakeError,
    Prediction,
    Sound,
    Track,
    Window,
    percent,
    probability,
)

log = logging.getLogger(__name__)
# RGB: real, doubtful, fake; told apart by people with any kind of colour vision (Okabe, Ito 2008).
_COLOURS = ((86, 180, 233), (230, 200, 90), (235, 110, 20))


def check_target(out: str | os.PathLike[str]) -> None:
    """Raise AvfakeError `usage` unless a new MP4 can be written there: nothing is overwritten."""
    target = Path(out)
    if target.suffix.lower() != ".mp4":
        raise AvfakeError("usage", f"Marked-up video is MP4: {target.name} must end in .mp4.")
    if target.exists():
        raise AvfakeError("usage", f"{target} is there already; it is not overwritten.")
    if not os.access(target.parent, os.W_OK):
        raise AvfakeError("usage", f"Nothing can be written in the folder {target.parent}.")


@contextmanager
def whole(out: str | os.PathLike[str]) -> Iterator[Path]:
    """Where to write what becomes `out` in the end; of what fails, nothing stays.

    It is in a folder of its own beside `out`. Raises AvfakeError `not_written`, and `usage` where
    there is something at `out` by then.
    """
    target = Path(out)
    try:
        with tempfile.TemporaryDirectory(
            prefix=".avfake-", dir=target.parent, ignore_cleanup_errors=True
        ) as folder:
            part = Path(folder) / target.name
            yield part
            check_target(target)
            part.rename(target)
    except OSError as error:
        log.debug("%s: %s", out, error)
        raise AvfakeError("not_written", f"{target.name} could not be written.") from None


def write_marked_video(
    prediction: Prediction, out: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS
) -> None:
    """Write `out` (MP4, 25 pictures a second, with sound), whole or not at all: what was judged,
    and how.

    Decodes `prediction.path` anew; scores are those of the prediction. Raises AvfakeError
    `nothing_to_mark` for a clip without pictures, `needs_extra` where moviepy is not installed,
    `not_written` where the disk refuses, or what `check_target` and opening the clip raise.
    """
    check_target(out)
    try:
        from moviepy import VideoClip
        from moviepy.audio.AudioClip import AudioClip
    except ImportError:
        raise AvfakeError(
            "needs_extra", "Marked-up video needs moviepy: pip install 'avfake[report]'."
        ) from None
    with Clip(prediction.path, limits=limits) as clip:
        sound = clip.sound()
        pictures = clip.pictures(colour_every=1)
        first = next(pictures, None)
        if first is None or first.colour is None or clip.info.is_image:
            raise AvfakeError("nothing_to_mark", f"{clip.path.name} has no moving picture.")
        height, width = (side // 2 * 2 for side in first.colour.shape[:2])
        current, start = first, first.time
        ends = [track.end for track in prediction.tracks]
        # The clip may claim to last for ages; no more of it was judged.
        end = min(clip.info.duration or max(ends, default=0.0), limits.seconds)
        count = max(1, round((end - start) * FRAME_RATE))

        def frame(when: float) -> np.ndarray:
            # moviepy asks for frames in order; a clip that ends early keeps its last one.
            nonlocal current
            while current.time < start + when - 0.5 / FRAME_RATE:
                following = next(pictures, None)
                if following is None:
                    break
                current = following
            assert current.colour is not None
            marked = _marked(current.colour, current.time, 1 / current.colour_scale, prediction)
            return marked[:height, :width]

        video = VideoClip(frame, duration=count / FRAME_RATE).with_fps(FRAME_RATE)
        if sound is not None:
            heard = AudioClip(_player(sound, start), count / FRAME_RATE, SAMPLE_RATE)
            video = video.with_audio(heard)
        with whole(out) as part:
            video.write_videofile(
                str(part),
                codec="libx264",
                audio_codec="aac",
                audio_fps=SAMPLE_RATE,
                temp_audiofile_path=str(part.parent),
                logger=None,
            )
            _check_whole(part, limits)


def _check_whole(part: Path, limits: Limits) -> None:
    """Raise OSError unless the file can be opened: moviepy does not ask how FFmpeg ended."""
    try:
        Clip(part, limits=Limits(pixels=limits.pixels)).close()
    except AvfakeError as error:
        raise OSError(str(error)) from None


def _player(sound: Sound, start: float) -> Callable[[Any], np.ndarray]:
    """The sound from `start` on as moviepy asks for it: by times, in pieces."""

    def samples(when: Any) -> np.ndarray:
        index = np.rint((np.asarray(when) + start - sound.start) * SAMPLE_RATE).astype(np.int64)
        inside = (index >= 0) & (index < len(sound.samples))
        mono = sound.samples[np.clip(index, 0, len(sound.samples) - 1)] * inside
        # Two channels: moviepy writes a single one at double length.
        return np.stack([mono, mono], axis=-1)

    return samples


def _marked(picture: np.ndarray, when: float, scale: float, prediction: Prediction) -> np.ndarray:
    """A copy of uint8 RGB [h, w, 3] with its faces boxed; `scale` maps original to its pixels."""
    picture = picture.copy()
    thick = max(1, round(max(picture.shape[:2]) / 400))
    for track in prediction.tracks:
        box = _box_at(track, when)
        if box is None:
            continue
        left, top, right, bottom = (round(float(v) * scale) for v in box)
        value = _probability_at(prediction, track.index, when)
        colour = (200, 200, 200)
        if value is not None:
            colour = _COLOURS[0 if value <= 1 - SUSPICIOUS else 1 if value < SUSPICIOUS else 2]
            text = f"face {track.index + 1}: {percent(value)}"
            _label(picture, text, (left, top - thick), colour)
        for edge, width in (((20, 20, 20), thick + 2), (colour, thick)):  # seen on any background
            cv2.rectangle(picture, (left, top), (right, bottom), edge, width, cv2.LINE_AA)
    if prediction.verdict is not None and prediction.logit is not None:
        verdict = (
            f"{prediction.verdict}: probability of a fake {percent(probability(prediction.logit))}"
        )
        _label(picture, verdict, (0, 0), (220, 220, 220))
    return picture


def _label(
    picture: np.ndarray, text: str, corner: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    """Dark letters on a filled bar that sits on the box's upper edge, and within the picture."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, max(0.45, max(picture.shape[:2]) / 1600)
    thick = max(1, round(size * 1.5))
    room = picture.shape[1] - 8
    (width, height), below = cv2.getTextSize(text, font, size, thick)
    while width > room and size > 0.1:  # letters come in whole pixels: no rule of three
        size *= 0.9
        (width, height), below = cv2.getTextSize(text, font, size, thick)
    left, bottom = max(0, min(corner[0], room - width)), max(corner[1], height + 2 * below)
    cv2.rectangle(
        picture, (left, bottom - height - 2 * below), (left + width + 4, bottom), colour, cv2.FILLED
    )
    cv2.putText(
        picture, text, (left + 2, bottom - below), font, size, (20, 20, 20), thick, cv2.LINE_AA
    )


def _box_at(track: Track, when: float) -> np.ndarray | None:
    nearest = int(np.argmin(np.abs(track.times - when)))
    return track.boxes[nearest] if abs(track.times[nearest] - when) < 1 / FRAME_RATE else None


def _probability_at(prediction: Prediction, track: int, when: float) -> float | None:
    """The picture branch's answer for this face at this time."""
    windows: list[Window] = [
        window
        for window in prediction.branches["visual"].windows
        if window.track == track and window.start <= when < window.end
    ]
    return probability(windows[0].logit) if windows else None
