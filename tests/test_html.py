"""The report: it says what the prediction says, and claims no more; it holds all it shows, and a
stranger's text is text."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from avfake import html
from avfake.bundle import Bundle
from avfake.credentials import Action, Credentials
from avfake.detector import Detector
from avfake.html import rarer, report_html, write_pdf, write_whole
from avfake.report import WARNINGS
from avfake.types import AvfakeError, Prediction, percent, probability
from tests.clips import grey_frames, portrait, remux, write_clip
from tests.traps import TRAPS

NASTY = "<img src=x onerror=alert(1)>\"'&{{7*7}}\u202e.mp4"


class Page(HTMLParser):
    """A page taken apart: `tags` with their attributes, `text` without styles."""

    VOID = ("meta", "img", "rect", "line", "link", "br", "i")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, "tags that are not closed"
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data + " "

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(detector: Detector, sample_prediction: Prediction) -> str:
    return report_html(sample_prediction, detector)


def judged(path: Path, detector: Detector) -> Page:
    return Page(report_html(detector.predict(path), detector))


# What it says


def test_the_verdict_stands_with_both_its_probabilities(
    page: str, sample_prediction: Prediction
) -> None:
    text = Page(page).text
    assert sample_prediction.logit is not None
    assert sample_prediction.verdict is not None
    assert sample_prediction.verdict.capitalize() in text
    here, rare = (
        percent(probability(sample_prediction.logit)),
        percent(rarer(sample_prediction.logit)),
    )
    assert f"if every second clip were one {here}" in text
    assert f"if 1 clip in 100 were a fake {rare}" in text


def test_where_fakes_are_rare_the_same_findings_mean_less() -> None:
    """62% at even odds: 0.62 / 0.38 / 99 = 0.0165 to one."""
    logit = float(np.log(0.62 / 0.38))
    odds = 0.62 / 0.38 / 99
    assert rarer(logit) == pytest.approx(odds / (1 + odds), abs=1e-4)
    assert rarer(logit, 0.5) == pytest.approx(0.62, abs=1e-4)


@pytest.mark.parametrize("verdict", ["likely fake", "likely real", "uncertain"])
def test_no_verdict_is_called_a_proof(
    detector: Detector, sample_prediction: Prediction, verdict: str
) -> None:
    text = Page(report_html(replace(sample_prediction, verdict=verdict), detector)).text
    assert verdict.capitalize() in text
    for head in ("What it says.", "What it does not say.", "What to do next."):
        assert head in text
    for claim in ("proof", "proves", "proven", "certainly", "definitely", "is a deepfake"):
        assert claim not in text.lower()


def test_each_branch_has_its_probability_or_the_reason_why_not(
    page: str, detector: Detector, sample_prediction: Prediction, sample_path: Path, tmp_path: Path
) -> None:
    text = Page(page).text
    for name, score in sample_prediction.branches.items():
        assert score.logit is not None
        assert percent(probability(score.logit)) in text, name
    offset = sample_prediction.branches["lipsync"].details["offset_ms"]
    assert f"{abs(offset):.0f} ms before the lips" in text
    silent = judged(remux(sample_path, tmp_path / "silent.mp4", with_sound=False), detector).text
    assert silent.count("Not judged: no sound.") == 2
    assert silent.count("no answer") == 4  # in the table and on the timeline


def test_the_timeline_has_a_lane_a_branch_and_a_face(
    page: str, sample_prediction: Prediction
) -> None:
    labels = [svg["aria-label"] for svg in Page(page).all("svg") if "aria-label" in svg]
    lanes = [label for label in labels if label and re.match("Face 1|Voice|Lip-sync", label)]
    assert [label.split(":")[0] for label in lanes] == ["Face 1", "Voice", "Lip-sync"]
    lipsync = [s for s in sample_prediction.segments if s.branch == "lipsync"]
    assert lipsync
    assert "suspicious from 0:00.0 to" in lanes[2]


def test_the_file_and_the_models_can_be_told_by_their_checksums(
    page: str, bundle: Bundle, sample_path: Path
) -> None:
    text = Page(page).text
    data = sample_path.read_bytes()
    assert hashlib.sha256(data).hexdigest() in text
    assert f"{len(data):,} bytes" in text
    assert bundle.sha256 in text
    assert f"{bundle.name} {bundle.version}" in text


def test_warnings_are_told_in_words(detector: Detector, sample_prediction: Prediction) -> None:
    warned = replace(sample_prediction, warnings=("gap", "branch_failed"))
    text = Page(report_html(warned, detector)).text
    assert WARNINGS["gap"] in text
    assert WARNINGS["branch_failed"] in text


def test_its_known_failures_are_those_of_the_page(page: str) -> None:
    """Which a test there holds to the model card."""
    text, guide = Page(page).text, html._words()["guide"]
    for known in guide["failures"]["text"] + guide["models"]["text"]:
        assert known in text


def test_other_models_are_not_judged_by_the_card_of_ours(
    detector: Detector, sample_prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "bundle", replace(detector.bundle, shipped=False))
    text = Page(report_html(sample_prediction, detector)).text
    assert "16 clips" not in text
    assert "must be asked of whoever made them" in text


# Files of every kind


def test_a_still_image_has_its_picture_and_no_timeline(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    cv2.imwrite(str(path), portrait()[..., ::-1])
    page = judged(path, detector)
    assert len(page.all("img")) == 3  # the whole, the face, its heat map
    assert "Over time" not in page.text
    assert "still image" in page.text


def test_a_sound_file_has_its_spectrogram_and_no_faces(detector: Detector, tmp_path: Path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    path = write_clip(tmp_path / "noise.wav", sound=sound, audio_codec="pcm_s16le")
    page = judged(path, detector)
    (picture,) = page.all("img")
    assert (picture["alt"] or "").startswith("Spectrogram")
    assert "Nothing to judge" in page.text
    assert "if every second clip" not in page.text


def test_a_clip_with_nothing_to_judge_says_why(detector: Detector, tmp_path: Path) -> None:
    page = judged(write_clip(tmp_path / "grey.mp4", grey_frames([90] * 30)), detector)
    assert "Nothing to judge" in page.text
    assert "no_evidence" in page.text
    assert "Not judged: no face found." in page.text


@pytest.mark.parametrize("trap", ["avi_header_lies", "edits_absurd"])
def test_a_clip_that_claims_to_last_for_ages_has_a_page(
    trap: str, detector: Detector, tmp_path: Path
) -> None:
    """And not a spectrogram of all those years."""
    prediction = detector.predict(TRAPS[trap](tmp_path))
    assert prediction.media is not None
    assert prediction.media.duration is not None
    assert prediction.media.duration > 2 * detector.limits.seconds
    assert "<h1" in report_html(prediction, detector)


def test_an_error_has_a_page_with_its_sentence_and_no_number(
    detector: Detector, tmp_path: Path
) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("no clip at all")
    prediction = detector.predict(path)
    page = Page(report_html(prediction, detector))
    assert prediction.message is not None
    assert prediction.message in page.text
    assert "not_media" in page.text
    assert hashlib.sha256(path.read_bytes()).hexdigest() in page.text
    assert "Probability of a fake" not in page.text
    path.unlink()
    gone = Page(report_html(detector.predict(path), detector))
    assert "not_found" in gone.text
    assert "not computed" in gone.text


# It holds all it shows


def test_nothing_is_fetched_and_nothing_runs(page: str) -> None:
    parts = Page(page)
    assert {"script", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in parts.tags)
    for _, attributes in parts.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "url(" not in page
    assert "@import" not in page
    policy = next(m["content"] for m in parts.all("meta") if "http-equiv" in m)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_those_who_hear_it_get_it_all(page: str) -> None:
    parts = Page(page)
    assert dict(parts.all("html")[0])["lang"] == "en"
    count = Counter(tag for tag, _ in parts.tags)
    assert count["h1"] == count["main"] == 1
    assert count["h2"] >= 6
    assert all(image.get("alt") for image in parts.all("img"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in parts.all("svg"))
    assert all(cell.get("scope") in ("row", "col") for cell in parts.all("th"))
    named = {attributes["id"] for _, attributes in parts.tags if "id" in attributes}
    used = {section["aria-labelledby"] for section in parts.all("section")}
    assert used <= named


def test_it_is_small_enough_to_send(page: str) -> None:
    assert len(page) < 1_500_000


# Texts of strangers


def test_names_are_text(detector: Detector, sample_prediction: Prediction) -> None:
    nasty = "<script>alert(1)</script>"
    assert sample_prediction.media is not None
    prediction = replace(
        sample_prediction,
        warnings=(nasty,),
        media=replace(sample_prediction.media, video_codec=nasty),
    )
    credentials = Credentials(
        "invalid",
        "They do not hold.",
        signer=nasty,
        organisation=nasty,
        signed=nasty,
        tool=nasty,
        actions=(Action(nasty, nasty, nasty, nasty),),
        problems=(nasty,),
    )
    written = report_html(prediction, detector, NASTY, credentials, {nasty: nasty})
    parts = Page(written)
    assert "script" not in {tag for tag, _ in parts.tags}
    assert all((image["src"] or "").startswith("data:") for image in parts.all("img"))
    assert parts.text.count(nasty) >= 10
    assert "{{7*7}}" in parts.text
    assert "\u202e" not in written


def test_an_error_quotes_a_name_as_text(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "<svg onload=alert(1)>.mp4"
    path.write_text("no clip")
    parts = judged(path, detector)
    assert not parts.all("svg")
    assert "<svg onload=alert(1)>.mp4" in parts.text


def test_a_name_that_is_no_text_can_be_written(
    detector: Detector, sample_prediction: Prediction, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    write_whole(out, report_html(sample_prediction, detector, "caf\udce9.mp4").encode())
    assert "caf" in out.read_text("utf-8")


@pytest.mark.parametrize("status", ["valid", "invalid", "none", "remote", "unreadable"])
def test_credentials_stand_beside_the_score(
    detector: Detector, sample_prediction: Prediction, page: str, status: str
) -> None:
    found = Credentials(status, f"This is {status}.", "S", problems=("http://elsewhere",))
    text = Page(report_html(sample_prediction, detector, credentials=found)).text
    assert f"This is {status}." in text
    assert "no part in the probability" in text
    # Nothing above them has changed, but the time at which the page was made.
    start, end = (t.index("What each part found") for t in (text, Page(page).text))
    assert text[start : start + 600] == Page(page).text[end : end + 600]


# Files that are written


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("before")
    write_whole(out, b"after")
    assert out.read_bytes() == b"after"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(AvfakeError) as caught:
        write_whole(tmp_path / "nowhere" / "report.html", b"after")
    assert caught.value.reason == "not_written"


@pytest.mark.usefixtures("pango")
def test_a_page_becomes_pdf(page: str, tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"
    write_pdf(page, out)
    assert out.read_bytes().startswith(b"%PDF-")
    assert out.stat().st_size > 100_000  # with its pictures


@pytest.mark.usefixtures("pango")
def test_pdf_fetches_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "secret.png").write_bytes(b"")
    write_pdf(f"<img src='file://{tmp_path}/secret.png'><p>text", tmp_path / "out.pdf")
    assert "secret.png" in caplog.text
    assert "not" in caplog.text


def test_what_is_not_installed_is_told(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(AvfakeError, match=r"avfake\[report\]"):
        write_pdf(page, tmp_path / "out.pdf")
    monkeypatch.setattr(html, "find_spec", lambda name: None)
    with pytest.raises(AvfakeError, match=r"avfake\[report\]"):
        html.check_html()
