"""A long clip's timeline shows a part of it, and everything of that part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.serve.page.browsing import Browsing

Browse = Callable[..., Browsing]
Job = dict[str, Any]
LENGTH = 300.0  # seconds


@pytest.fixture(scope="module")
def long(sample: Job) -> Job:
    """The sample's answer as if it were five minutes long, with one suspicious second at 3:20."""

    def course(track: int | None, step: float) -> list[Job]:
        starts = [index * step for index in range(int(LENGTH / step))]
        return [
            {
                "start": start,
                "end": start + step,
                "track": track,
                "fake_probability": 0.9 if start == 200 and step == 1 else 0.3,
            }
            for start in starts
        ]

    result = sample["result"]
    branches = result["branches"] | {
        "visual": result["branches"]["visual"] | {"windows": course(0, 1)},
        "audio": result["branches"]["audio"] | {"windows": course(None, 4)},
        "lipsync": {"status": "absent", "reason": "no_speech", "fake_probability": None}
        | {"windows": []},
    }
    track = result["tracks"][0] | {"end": LENGTH}
    stretch = {"start": 200, "end": 201, "branch": "visual", "fake_probability": 0.9}
    return sample | {
        "media": None,
        "result": result
        | {
            "branches": branches,
            "tracks": [track],
            "segments": [stretch],
            "media": result["media"] | {"duration": LENGTH, "audio_codec": None},
        },
    }


@pytest.fixture
def at(browse: Browse, long: Job) -> Callable[..., Browsing]:
    """Opens the page of the long clip."""

    def begin(**more: Any) -> Browsing:
        browsing = browse(**more)
        browsing.page.route(
            f"**/v1/predictions/{long['id']}", lambda route: route.fulfill(json=long)
        )
        browsing.open(long)
        return browsing

    return begin


def seen(browsing: Browsing) -> tuple[float, float]:
    """Seconds of the clip that the timeline's window shows."""
    start, end = browsing.page.evaluate(
        """() => {
          const inside = document.querySelector(".tl-port").getBoundingClientRect();
          const whole = document.querySelector(".tl-track").getBoundingClientRect();
          return [inside.left, inside.right].map(x => (x - whole.left) / whole.width);
        }"""
    )
    return LENGTH * start, LENGTH * end


def test_a_sliver_becomes_a_stretch_that_can_be_aimed_at(at: Callable[..., Browsing]) -> None:
    browsing = at()
    page = browsing.page
    bar = page.locator(".bar-hatch")
    assert bar.bounding_box()["width"] < 4
    assert browsing.text(".zoom-words") == "Whole clip"
    page.locator(".segment").click()
    into = page.get_by_role("button", name="Zoom in")
    while into.get_attribute("aria-disabled") == "false":
        into.click()
    start, end = seen(browsing)
    assert start < 200 < 201 < end
    assert end - start < 12
    box = bar.bounding_box()
    assert box["width"] > 30
    assert browsing.text(".zoom-words").startswith("3:1")
    assert page.evaluate("() => told").pop() == browsing.text(".zoom-words")
    labels = page.locator(".tick").all_inner_texts()
    assert {"3:18", "3:20"} <= set(labels)
    assert browsing.overflow <= 0  # the window scrolls, the page does not

    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    slider = page.get_by_role("slider", name="Moment in the clip")
    assert float(slider.get_attribute("aria-valuenow")) == pytest.approx(200.5, abs=0.1)
    page.get_by_role("button", name="Zoom out").click()
    assert seen(browsing)[1] - seen(browsing)[0] > 15
    reason = page.locator(".lane-reason").bounding_box()
    port = page.locator(".tl-port").bounding_box()
    assert port["x"] <= reason["x"] < port["x"] + port["width"]  # said of every part


def test_the_keys_zoom_and_the_window_follows_the_playhead(at: Callable[..., Browsing]) -> None:
    browsing = at()
    slider = browsing.page.get_by_role("slider", name="Moment in the clip")
    for _ in range(4):
        slider.press("+")
    assert seen(browsing)[0] <= 0
    slider.press("n")  # the marked stretch is far outside
    start, end = seen(browsing)
    assert start < 200 < end
    for _ in range(2 * int(end - 200)):  # a second is five steps: to the edge, and over it
        for _ in range(5):
            slider.press("ArrowRight")
        now = float(slider.get_attribute("aria-valuenow"))
        start, end = seen(browsing)
        assert start <= now <= end
    slider.press("End")
    assert seen(browsing)[1] >= LENGTH
    slider.press("0")
    assert browsing.text(".zoom-words") == "Whole clip"
    assert browsing.page.locator(".tl-port").evaluate("e => e.scrollWidth - e.clientWidth") <= 12


def test_a_clip_that_fits_has_nothing_to_zoom(at_sample: Browsing) -> None:
    assert at_sample.page.locator(".zoom").count() == 0
    assert "zoom" not in at_sample.text(".tl-keys")


def test_on_a_phone_a_finger_moves_the_part_and_a_tap_seeks(at: Callable[..., Browsing]) -> None:
    browsing = at(width=360, height=740, has_touch=True, is_mobile=True)
    page = browsing.page
    page.get_by_role("button", name="Zoom in").tap()
    page.get_by_role("button", name="Zoom in").tap()
    track = page.locator(".tl-port")
    track.evaluate("e => e.scrollIntoView({ block: 'center' })")
    box = track.bounding_box()
    x, y = box["x"] + box["width"] * 0.8, box["y"] + 60
    before = seen(browsing)
    hand = browsing.context.new_cdp_session(page)
    for moved in (0, 20, 50, 80, 110, 140):
        kind = "touchMove" if moved else "touchStart"
        point = {"x": x - moved, "y": y}
        hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    hand.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function("() => document.querySelector('.tl-port').scrollLeft > 50")
    slider = page.get_by_role("slider", name="Moment in the clip")
    assert slider.get_attribute("aria-valuenow") == "0.0"  # what was moved is the window
    start, end = seen(browsing)
    assert start > before[0]
    page.touchscreen.tap(box["x"] + box["width"] / 2, y)
    page.wait_for_function(
        "() => document.querySelector('.tl-track').getAttribute('aria-valuenow') !== '0.0'"
    )
    assert start < float(slider.get_attribute("aria-valuenow")) < end
    assert browsing.overflow <= 0
