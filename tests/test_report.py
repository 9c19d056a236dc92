"""The table: what it says is what the prediction holds, and it says nothing else."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from avfake.report import WARNINGS, render, strip
from avfake.types import REASONS, BranchScore, MediaInfo, Prediction, Segment, Track, Window


def text_of(prediction: Prediction, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(render(prediction), soft_wrap=True)
    return out.getvalue()


def windows(*logits: float, length: float = 1.0, hop: float = 1.0) -> tuple[Window, ...]:
    return tuple(Window(i * hop, i * hop + length, logit) for i, logit in enumerate(logits))


@pytest.fixture
def prediction() -> Prediction:
    return Prediction(
        "/somewhere/clip [b].mp4",
        "ok",
        logit=2.9445,
        verdict="likely fake",
        branches={
            "visual": BranchScore("ok", logit=4.0, windows=windows(-5, -5, 5, 5)),
            "audio": BranchScore.absent("no_speech"),
            "lipsync": BranchScore(
                "ok",
                logit=-1.0,
                windows=windows(0, 0),
                details={"offset_ms": -120.0, "confidence": 0.42},
            ),
        },
        tracks=(Track(0, np.zeros(1), np.zeros((1, 4)), np.ones(1, bool)),),
        segments=(Segment(2.0, 4.0, "visual", 5.0),),
        media=MediaInfo(4.0, 640, 360, 29.97, "h264", "aac", 44_100),
        warnings=("partial_decode",),
        bundle={"name": "default", "version": "7", "sha256": "0"},
        seconds={"total": 1.26},
    )


def test_the_answer_comes_first(prediction: Prediction) -> None:
    lines = text_of(prediction).splitlines()
    assert lines[0].startswith("clip [b].mp4")
    assert "4.0 s, 640x360, 29.97 fps, h264 + aac" in lines[0]
    assert "likely fake" in lines[1]
    assert "95%" in lines[1]


def test_each_branch_has_a_row_of_its_own(prediction: Prediction) -> None:
    text = text_of(prediction)
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "98%" in rows["picture"]
    assert "▁▁██" in rows["picture"]
    assert REASONS["no_speech"] in rows["voice"]
    assert "█" not in rows["voice"]
    assert "sound 120 ms early" in rows["lip-sync"]
    assert "weak" not in rows["lip-sync"]


@pytest.mark.parametrize(
    ("offset", "words"),
    [(0.0, "sound in step"), (15.0, "sound in step"), (80.0, "80 ms late"), (-80.0, "80 ms early")],
)
def test_the_side_of_the_offset(prediction: Prediction, offset: float, words: str) -> None:
    lipsync = replace(
        prediction.branches["lipsync"], details={"offset_ms": offset, "confidence": 1.0}
    )
    branches = dict(prediction.branches) | {"lipsync": lipsync}
    assert words in text_of(replace(prediction, branches=branches))


def test_an_offset_at_which_nothing_matches_well_is_told_with_that(prediction: Prediction) -> None:
    lipsync = replace(
        prediction.branches["lipsync"], details={"offset_ms": -80.0, "confidence": 0.08}
    )
    branches = dict(prediction.branches) | {"lipsync": lipsync}
    text = text_of(replace(prediction, branches=branches))
    assert "sound 80 ms early (weak match)" in text


def test_suspicious_stretches_warnings_and_models_are_told(prediction: Prediction) -> None:
    text = text_of(prediction)
    assert "2.0-4.0 s (picture over 99%)" in text
    assert WARNINGS["partial_decode"] in text
    assert "1.3 s with models default 7" in text


def test_errors_and_abstentions_show_their_sentence_and_no_number() -> None:
    bad = Prediction("x/bad.mp4", "error", "not_media", "bad.mp4 is no clip.")
    assert "bad.mp4 is no clip." in text_of(bad)
    empty = Prediction("x/empty.mp4", "abstain", "no_evidence", "Nothing to judge.")
    text = text_of(empty)
    assert "not judged  Nothing to judge." in text
    assert "probability" not in text
    assert "fake" not in text


def test_a_failed_branch_says_so(prediction: Prediction) -> None:
    branches = dict(prediction.branches) | {"audio": BranchScore.failed("inference_error")}
    assert REASONS["inference_error"] in text_of(replace(prediction, branches=branches))


def test_a_still_image_has_no_course_over_time(prediction: Prediction) -> None:
    still = replace(
        prediction,
        branches={
            "visual": BranchScore("ok", logit=4.0, windows=windows(4.0)),
            "audio": BranchScore.absent("no_sound"),
            "lipsync": BranchScore.absent("no_sound"),
        },
        media=MediaInfo(None, 640, 360, None, None, None, None, is_image=True),
        segments=(),
        warnings=(),
    )
    text = text_of(still)
    assert "98%" in text
    assert "640x360" in text
    assert "None" not in text


# The strip


def bars(text: object) -> str:
    return str(text)


def test_a_strip_has_a_bar_a_second() -> None:
    assert bars(strip(windows(-9, 0, 9, -9), 4.0)) == "▁▅█▁"


def test_what_was_not_judged_is_a_dot() -> None:
    given = (Window(1.0, 2.0, 9.0), Window(4.0, 5.0, -9.0))
    assert bars(strip(given, 6.0)) == "·█··▁·"


def test_a_long_clip_is_gathered_into_columns() -> None:
    logits = [-9.0] * 960
    logits[500] = 9.0
    course = bars(strip(windows(*logits), 960.0))
    assert len(course) == 24
    assert course.count("▁") + course.count("█") == 24


def test_one_fake_second_shows_in_a_long_clip() -> None:
    """A column of forty seconds shows the highest of them: the worst must not be hidden."""
    logits = [-9.0] * 960
    logits[500] = 9.0
    course = bars(strip(windows(*logits), 960.0))
    assert course[500 // 40] == "█"
    assert course.count("█") == 1


def test_two_faces_show_the_worse() -> None:
    given = (Window(0.0, 1.0, -9.0, 0), Window(0.0, 1.0, 9.0, 1), Window(1.0, 2.0, -9.0, 0))
    assert bars(strip(given, 2.0)) == "█▁"


def test_overlapping_windows_show_where_they_centre() -> None:
    """Four-second windows every two: each second shows the window round it."""
    given = (Window(0.0, 4.0, -9.0), Window(2.0, 6.0, 9.0), Window(4.0, 8.0, -9.0))
    course = bars(strip(given, 8.0))
    assert course[0] == course[-1] == "▁"
    assert course[3:5] == "██"
