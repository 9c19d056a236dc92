"""All words are in one file, and the page's arithmetic is that of the package."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avfake import types
from avfake.report import WARNINGS
from avfake.workers import FAULTS
from tests.serve.page.browsing import Browsing

RAISED = r'AvfakeError\(\s*"(\w+)"|_error\(path, "(\w+)"'
PAGE = Path(types.__file__).parent / "serve" / "page"


def keys(level: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(level, dict) and not set(level) <= {"one", "two", "few", "many", "other"}:
        for name, below in level.items():
            yield from keys(below, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix


@pytest.fixture(scope="module")
def texts() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((PAGE / "texts.json").read_text())
    return loaded


def test_every_text_is_used_and_every_text_used_is_there(texts: dict[str, Any]) -> None:
    script = "\n".join(path.read_text() for path in PAGE.glob("*.js"))
    used = set(re.findall(r'\b(?:t|list|noted)\("([\w.]+)"', script))
    there = set(keys(texts))
    assert {key for key in used if key not in there} == set()
    # Keys that are put together: t(`step.${name}`), and by a code: named("faults", code).
    composed = re.findall(r"\bt\(`([^`]+)`", script)
    patterns = [re.sub(r"\\\$\\{[^}]*\\}", r"\\w+", re.escape(key)) for key in composed]
    patterns += [rf"{group}\.\w+" for group in re.findall(r'\bnamed\("([\w.]+)"', script)]
    loose = {key for key in there if f'"{key}"' not in script}
    assert {key for key in loose if not any(re.fullmatch(p, key) for p in patterns)} == {"language"}


def test_the_markup_holds_no_words_of_its_own() -> None:
    markup = (PAGE / "index.html").read_text()
    body = re.sub(r"<!--.*?-->|<noscript>.*?</noscript>", "", markup.split("<body>")[1], flags=re.S)
    assert re.sub(r"<[^>]+>", "", body).strip() == ""


def test_nothing_is_written_as_markup_or_fetched_from_elsewhere() -> None:
    for path in PAGE.iterdir():
        source = path.read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in source, path.name
        outside = set(re.findall(r"https?://[^\s\"')]+", source))
        assert outside <= {"http://www.w3.org/2000/svg"}, path.name
        assert not re.search(r"<[^>]+\sstyle=|<style|\son\w+=\"", source), path.name


def test_every_warning_has_words(texts: dict[str, Any]) -> None:
    assert set(WARNINGS) == set(texts["warnings"])


def test_every_reason_for_which_a_file_fails_has_words(texts: dict[str, Any]) -> None:
    reasons = set(FAULTS)
    for room in ("media", "container", "pictures", "limits", "detector"):
        source = (PAGE.parents[1] / f"{room}.py").read_text()
        reasons |= {one for pair in re.findall(RAISED, source) for one in pair if one}
    assert len(reasons) > 10
    # The server hands every path to the decoder itself: none of these can be.
    assert reasons - {"not_found", "not_a_file"} <= set(texts["faults"])


# Whoever asks in another way than the page does hears these; the page has no words for them.
UNASKED = {"not_allowed", "not_a_form", "bad_request", "no_such_range", "not_done"}
# Told by what shows the picture, the sound or the film: heat.failed, sound.failed, player.broken.
SHOWN = {"no_media", "no_such_face", "no_evidence", "no_sound"}


def test_every_reason_that_the_server_can_give_has_words(
    texts: dict[str, Any], repository: Path
) -> None:
    page = (repository / "docs" / "reasons.md").read_text("utf-8")
    section = page.split("## What the server refuses")[1]
    listed = {
        code
        for row in re.findall(r"^\|([^|]*)\|", section, re.M)
        for code in re.findall(r"`(\w+)`", row)
    }
    given = {
        code
        for path in (PAGE.parent).glob("*.py")
        for code in re.findall(r'ApiError\(\s*\d+,\s*"(\w+)"', path.read_text("utf-8"))
    }
    assert len(given) > 10
    assert given <= listed  # that the two agree is what tests/test_reasons.py sees to
    assert given | listed == (given | listed) & (set(texts["faults"]) | UNASKED | SHOWN)
    assert not set(texts["faults"]) & (UNASKED | SHOWN)


def test_every_reason_for_which_a_clip_cannot_be_judged_has_words(
    texts: dict[str, Any], repository: Path
) -> None:
    page = (repository / "docs" / "reasons.md").read_text("utf-8")
    section = page.split("## Why a file has no score")[1].split("## Why a branch")[0]
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|", section, re.M)
    elsewhere = {"deadline", "ambiguous", "interrupted", "not_writable"}  # submit
    elsewhere |= {"worker_lost", "not_fetched"}  # batch
    reasons = {code for code, _ in rows} - elsewhere
    assert len(reasons) > 15
    # The server opens nothing but the files that it has stored itself.
    assert reasons - {"not_a_file"} <= set(texts["faults"])


def test_no_text_calls_an_answer_a_proof() -> None:
    said = (PAGE / "texts.json").read_text().replace("never proof", "")
    for claim in ('proof[^"]', "proves", "proven", "certainly", "definitely", "is a deepfake"):
        assert not re.search(claim, said), claim


def test_the_known_failures_are_those_of_the_model_card(texts: dict[str, Any]) -> None:
    """Models that are better, or worse, need another text."""
    said = json.dumps(texts["guide"])
    card = (PAGE.parents[1] / "bundles" / "default" / "MODEL_CARD.md").read_text("utf-8")
    card = " ".join(card.split())
    for here, there in (
        ("not shown to be better than chance", "is not shown to be better than chance"),
        ("On 16 clips", "16 clips of the `dev` split"),
        ("smaller than about 40 pixels", "smaller than about 40 pixels"),
        ("off by 80 ms", "(80 ms)"),
        ("Music, several voices at once", "Music and several speakers at once"),
        ("Nobody has measured", "has not been measured"),
    ):
        assert here in said
        assert there in card


def test_percentages_are_those_of_the_package(browse: Callable[..., Browsing]) -> None:
    """Of every probability there is: they have four places."""
    browsing = browse()
    browsing.start()
    shown = browsing.page.evaluate(
        "async () => { const { percent } = await import('./page/text.js');"
        " return [...Array(10001).keys()].map(count => percent(count / 10000)); }"
    )
    assert shown == [types.percent(count / 10_000) for count in range(10_001)]


@pytest.fixture(scope="module")
def scores(chromium: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Calls a function of score.js."""
    page = chromium.new_page()
    page.goto(address)

    def call(name: str, *arguments: Any) -> Any:
        return page.evaluate(
            "([name, given]) => import('./page/score.js').then(module =>"
            " typeof module[name] === 'function' ? module[name](...given) : module[name])",
            [name, list(arguments)],
        )

    yield call
    page.close()


def test_a_stretch_stands_out_from_the_same_probability_on(scores: Callable[..., Any]) -> None:
    assert scores("SUSPICIOUS") == types.SUSPICIOUS
    assert scores("WEAK_MATCH") == types.WEAK_MATCH
    assert scores("level", types.SUSPICIOUS) == "fake"
    assert scores("level", types.SUSPICIOUS - 0.01) == "unsure"


def test_rarer_fakes_follow_bayes(scores: Callable[..., Any]) -> None:
    assert scores("inWorld", 0.62, 2) == pytest.approx(0.62)
    # Odds of 3 to 1, of which the prior's 1 to 99 leaves 3 to 99.
    assert scores("inWorld", 0.75, 100) == pytest.approx(3 / 102)


def test_windows_that_overlap_share_their_time_by_the_nearer_centre(
    scores: Callable[..., Any],
) -> None:
    windows = [
        {"start": 0, "end": 4, "fake_probability": 0.1},
        {"start": 2, "end": 6, "fake_probability": 0.9},
        {"start": 6, "end": 6.5, "fake_probability": 0.5},
    ]
    found = scores("stretches", windows)
    assert [(one["start"], one["end"]) for one in found] == [(0, 3), (3, 6), (6, 6.5)]
    assert scores("valueAt", found, 2.9) == 0.1
    assert scores("valueAt", found, 3.1) == 0.9
    assert scores("valueAt", found, 7) is None


def test_a_box_between_two_moments_lies_between_them(scores: Callable[..., Any]) -> None:
    track = {"boxes": [[1.0, 10, 20, 30, 40], [1.2, 20, 20, 40, 60], [4.0, 0, 0, 9, 9]]}
    assert scores("boxAt", track, 1.1) == pytest.approx([15, 20, 35, 50])
    assert scores("boxAt", track, 0.5) is None
    assert scores("boxAt", track, 2.5) is None  # nobody saw the face for seconds
    assert scores("boxAt", track, 4.0) == [0, 0, 9, 9]
    assert scores("boxAt", track, 4.2) is None


def test_a_long_clip_keeps_its_peaks(scores: Callable[..., Any]) -> None:
    cells = [{"start": i, "end": i + 1, "value": 0.9 if i == 1234 else 0.2} for i in range(3600)]
    drawn = scores("condensed", cells, 3600, 400)
    assert len(drawn) == 400
    assert [one["start"] for one in drawn if one["value"] > 0.5] == [pytest.approx(1233)]
