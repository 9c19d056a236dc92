"""The report: one HTML page that holds all it shows, for people (extra `report`).

No script, no address that is fetched; pictures are inlined. Names and metadata are strangers' text:
the template escapes everything.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from avfake import __version__
from avfake.container import open_regular
from avfake.credentials import Credentials
from avfake.detector import Detector
from avfake.evidence import (
    FULL,
    Moment,
    encode_jpeg,
    encode_png,
    moments_and_stills,
    pitch,
    spectrogram,
)
from avfake.media import Clip
from avfake.report import NAMES, WARNINGS
from avfake.terminal import visible
from avfake.timeline import Lane, clock, lanes, length_of, ticks
from avfake.types import (
    SUSPICIOUS,
    WEAK_MATCH,
    AvfakeError,
    BranchScore,
    MediaInfo,
    Prediction,
    Sound,
    percent,
    probability,
)

RARE = 0.01
"""The share of fakes for which the answer is told beside that for every second clip."""
MOMENTS = 6
_STILLS = 6
_SPECTRUM = (1200, 150)  # pixels
_SEGMENTS = 12  # rows; the worst
_QUESTIONS = {
    "visual": "Does a face look blended, painted or swapped?",
    "audio": "Does the voice sound synthetic or converted?",
    "lipsync": "Do the lips fit the sound?",
}

Pathlike = str | os.PathLike[str]


@dataclass(frozen=True)
class _Row:
    """One branch in the table: `value` is None where it has no answer."""

    name: str
    question: str
    value: float | None
    finding: str


def report_html(
    prediction: Prediction,
    detector: Detector,
    name: str | None = None,
    credentials: Credentials | None = None,
    settings: Mapping[str, str] | None = None,
) -> str:
    """The page, as text.

    `prediction.path` is decoded anew for its pictures, its scores stay as they are; `name` is what
    the file is called on the page (default: its own name); `credentials`: what its manifest says,
    if that was looked at; `settings`: further rows of the table of settings.

    A clip that could not be judged has a page that says why. Raises AvfakeError `needs_extra`
    where jinja2 is not installed, and what opening a clip raises that was fine when it was judged.
    """
    template = _template()
    digest = _digest(prediction.path, detector.limits.bytes)
    length = min(length_of(prediction), detector.limits.seconds)  # the clip may claim any
    shown = lanes(prediction, length) if length > 0 and prediction.status == "ok" else ()
    found, stills, sound = _decoded(prediction, detector, length)
    page: str = template.render(
        name=visible(name or Path(prediction.path).name),
        made=datetime.now(UTC),
        version=__version__,
        words=_words(),
        prediction=prediction,
        message=visible(prediction.message or ""),
        answer=_answer(prediction, detector),
        rows=[_row(prediction, branch, score) for branch, score in prediction.branches.items()],
        lanes=[(lane, _lane_name(lane), _in_words(lane, length)) for lane in shown],
        ticks=ticks(length) if length > 0 else (),
        stills=[(_at(s.time, length), _picture(encode_jpeg(s.picture, 80))) for s in stills],
        spectrum=_spectrum(sound, length),
        pitches=[(f"{hertz / 1000:g} kHz", pitch(hertz)) for hertz in (500, 2000, 5000)],
        moments=[_shown(number, moment, length) for number, moment in enumerate(found, 1)],
        segments=sorted(
            sorted(prediction.segments, key=lambda s: -s.logit)[:_SEGMENTS], key=lambda s: s.start
        ),
        segments_in_all=len(prediction.segments),
        warnings=[WARNINGS.get(warning, warning) for warning in prediction.warnings],
        file_facts=_file_facts(prediction, name, digest),
        settings=_settings(prediction, detector, settings or {}),
        credentials=credentials,
        shipped=detector.bundle.shipped,
        bundle=detector.bundle,
        suspicious=SUSPICIOUS,
        full=FULL,
    )
    # A file's name may be no text: what is not becomes a question mark.
    return page.encode("utf-8", "replace").decode()


def write_pdf(page: str, out: Pathlike) -> None:
    """Write a page of `report_html` as PDF, A4, whole or not at all.

    Raises AvfakeError as `check_pdf` and `write_whole` do.
    """
    check_pdf()
    from weasyprint import HTML
    from weasyprint.urls import URLFetcher

    # Nothing but what is inlined: no file, no address.
    fetcher = URLFetcher(allowed_protocols=["data"])
    write_whole(out, HTML(string=page, url_fetcher=fetcher).write_pdf())


def check_html() -> None:
    """Raise AvfakeError `needs_extra` unless pages can be written here."""
    if find_spec("jinja2") is None:
        raise AvfakeError("needs_extra", "A report needs jinja2: pip install 'avfake[report]'.")


def check_pdf() -> None:
    """Raise AvfakeError `needs_extra` unless PDF can be written here."""
    try:
        import weasyprint  # noqa: F401
    except ImportError:
        text = "PDF needs weasyprint: pip install 'avfake[report]'."
        raise AvfakeError("needs_extra", text) from None
    except OSError as error:  # it is there, the libraries that it loads are not
        missing = str(error).split(":")[0]
        packages = "apt install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"
        text = f"PDF needs Pango, which pip does not install ({packages}): {missing}."
        raise AvfakeError("needs_extra", text) from None


def write_whole(out: Pathlike, data: bytes) -> None:
    """Put `data` where `out` is, replacing what is there in one step.

    Raises AvfakeError `not_written`.
    """
    target = Path(out)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            with part.open("xb") as file:
                file.write(data)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        text = f"{target} could not be written: {error.strerror}."
        raise AvfakeError("not_written", text) from None


def rarer(logit: float, share: float = RARE) -> float:
    """The probability that an answer becomes where `share` of the clips are fakes.

    Bayes' rule in log-odds: `logit` is calibrated for a world in which every second clip is fake.
    """
    return probability(logit + math.log(share / (1 - share)))


def _template() -> Any:
    check_html()
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": percent,
        "probability": probability,
        "clock": clock,
        "face": _face,
        "branch": _title,
    }
    source = files("avfake") / "templates" / "report.html.j2"
    return environment.from_string(source.read_text("utf-8"))


def _words() -> Any:
    """The page of `avfake serve` says what answers mean, and where they fail; so does this one."""
    return json.loads((files("avfake") / "serve" / "page" / "texts.json").read_text("utf-8"))


def _answer(prediction: Prediction, detector: Detector) -> dict[str, Any] | None:
    """The verdict, its probability here and where fakes are rare; None where there is none."""
    if prediction.logit is None or prediction.verdict is None:
        return None
    return {
        "kind": {"likely fake": "fake", "likely real": "real"}.get(prediction.verdict, "unsure"),
        "words": prediction.verdict.capitalize(),
        "value": probability(prediction.logit),
        "rare": rarer(prediction.logit),
        "from_fake": detector.bundle.threshold("likely_fake"),
        "to_real": detector.bundle.threshold("likely_real"),
    }


def _decoded(
    prediction: Prediction, detector: Detector, length: float
) -> tuple[Sequence[Moment], Sequence[Any], Sound | None]:
    """What the page shows of the clip itself; nothing of one that could not be judged."""
    media = prediction.media
    if media is None or prediction.status == "error":
        return (), (), None
    times = [(i + 0.5) / _STILLS * length for i in range(_STILLS)] if length > 0 else [0.0]
    if not (media.is_image or media.video_codec):
        times = []
    found, stills = moments_and_stills(prediction.path, prediction, detector, MOMENTS, times)
    with Clip(prediction.path, limits=detector.limits) as clip:
        return found, stills, clip.sound()


def _spectrum(sound: Sound | None, length: float) -> str | None:
    if sound is None or length <= 0:
        return None
    # On the axis of the lanes, from 0 to the clip's end, wherever the sound begins.
    whole = Sound(sound.between(0.0, length), 0.0)
    return _picture(encode_png(spectrogram(whole, *_SPECTRUM)))


def _picture(data: bytes) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _shown(number: int, moment: Moment, length: float) -> dict[str, Any]:
    return {
        "number": number,
        "track": moment.track,
        "when": _at(moment.time, length),
        "place": moment.time / length if length > 0 else 0.0,
        "value": probability(moment.logit),
        "crop": _picture(encode_jpeg(moment.crop)),
        "heat": _picture(encode_jpeg(moment.heat)),
    }


def _at(time: float, length: float) -> str | None:
    """When something is in the clip; None in a still image."""
    return clock(time, 1) if length > 0 else None


def _row(prediction: Prediction, branch: str, score: BranchScore) -> _Row:
    value = None if score.logit is None else probability(score.logit)
    return _Row(_title(branch), _QUESTIONS[branch], value, _finding(prediction, branch, score))


def _finding(prediction: Prediction, branch: str, score: BranchScore) -> str:
    """What a branch has to say, in a sentence or two."""
    if score.status == "failed":
        return "This part failed on this clip; the answer is from the others."
    if score.logit is None:
        return f"Not judged: {score.note()}."
    if branch == "visual":
        count = len(prediction.track_logits)
        if count == 1:
            return "One face was judged."
        return f"{count} faces were judged; the answer is that of the most suspicious one."
    if branch == "audio":
        seconds = max(w.end for w in score.windows) - min(w.start for w in score.windows)
        return f"Speech was judged within {seconds:.0f} s of sound."
    offset, confidence = score.details["offset_ms"], score.details["confidence"]
    side = "after" if offset > 0 else "before"
    fit = f"The sound fits best {abs(offset):.0f} ms {side} the lips"
    if abs(offset) < 20:
        fit = "The sound fits best where it is"
    if confidence < WEAK_MATCH:
        return f"{fit}, but the match is weak: it may as well be another offset."
    return f"{fit}."


def _lane_name(lane: Lane) -> str:
    if lane.branch == "visual" and lane.tracks:
        if len(lane.tracks) > 1:
            return f"{len(lane.tracks)} more faces"
        return _face(lane.tracks[0])
    return _title(lane.branch)


def _face(track: int) -> str:
    return f"Face {track + 1}"


def _title(branch: str) -> str:
    return NAMES[branch].capitalize()


def _in_words(lane: Lane, length: float) -> str:
    """A lane for those who do not see it."""
    if lane.value is None:
        return lane.note
    runs = [
        f"{clock(run.left * length, 1)} to {clock(run.right * length, 1)}"
        for run in lane.suspicious[:8]
    ]
    more = len(lane.suspicious) - len(runs)
    if more:
        runs.append(f"{more} more")
    where = f"suspicious from {', '.join(runs)}" if runs else "no suspicious stretch"
    return f"{percent(lane.value)} over all; {where}"


def _file_facts(
    prediction: Prediction, name: str | None, digest: tuple[int, str] | None
) -> list[tuple[str, str]]:
    facts = [("File", visible(name or Path(prediction.path).name))]
    if digest is None:
        facts.append(("SHA-256", "not computed: the file is empty, too large or cannot be read"))
    else:
        size, checksum = digest
        facts += [("Size", f"{size:,} bytes"), ("SHA-256", checksum)]
    return facts + (_media_facts(prediction.media) if prediction.media is not None else [])


def _media_facts(media: MediaInfo) -> list[tuple[str, str]]:
    facts = []
    if media.is_image:
        facts.append(("Kind", "still image"))
    if media.duration:
        facts.append(("Length", f"{media.duration:.2f} s"))
    if media.width:
        turned = f", turned by {media.rotation}°" if media.rotation else ""
        facts.append(("Picture", f"{media.width}x{media.height} pixels{turned}"))
    if media.fps:
        facts.append(("Pictures a second", f"{media.fps:.4g}"))
    if media.video_codec:
        facts.append(("Video codec", media.video_codec))
    elif not media.is_image:
        facts.append(("Video codec", "none: there is no picture"))
    if media.audio_codec:
        rate = f", {media.sample_rate / 1000:g} kHz" if media.sample_rate else ""
        facts.append(("Sound codec", f"{media.audio_codec}{rate}"))
    elif not media.is_image:
        facts.append(("Sound codec", "none: there is no sound"))
    return facts


def _settings(
    prediction: Prediction, detector: Detector, more: Mapping[str, str]
) -> list[tuple[str, str]]:
    bundle, limits = detector.bundle, detector.limits
    real, fake = (bundle.threshold(name) for name in ("likely_real", "likely_fake"))
    rows = [
        ("avfake", __version__),
        ("Models", f"{bundle.name} {bundle.version}"),
        ("SHA-256 of the models", bundle.sha256),
        ("“Likely real”", f"up to {percent(real)}"),
        ("“Likely fake”", f"from {percent(fake)}"),
        ("Suspicious stretches", f"from {percent(SUSPICIOUS)}"),
        *more.items(),
        ("Largest picture", f"{limits.pixels:,} pixels"),
        ("Longest clip", f"{limits.seconds:,.6g} s; of a longer one, its beginning is judged"),
        ("Largest file", f"{limits.bytes / 2**30:.3g} GB"),
        ("Longest decoding", f"{limits.decode_seconds:,.6g} s"),
    ]
    if "total" in prediction.seconds:
        rows.append(("Time that it took", f"{prediction.seconds['total']:.1f} s"))
    return [(name, visible(value)) for name, value in rows]


def _digest(path: Pathlike, most: int) -> tuple[int, str] | None:
    """(bytes, SHA-256) of a file; None where it cannot be read, or has more than `most` bytes."""
    try:
        with open_regular(Path(path), most) as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
            return file.tell(), checksum
    except (AvfakeError, OSError):
        return None
