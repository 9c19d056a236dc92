"""The page for everyone: keyboard, screen reader, small screens, light and dark, little motion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.serve.page.browsing import Browsing
from tests.serve.servers import Client

Browse = Callable[..., Browsing]
Job = dict[str, Any]

# What a screen reader would stumble over. Returns one line a fault.
FAULTS = """() => {
  const faults = [];
  const seen = element => element.checkVisibility({ visibilityProperty: true })
    && !element.closest("[aria-hidden=true]");
  const text = element => (element?.innerText || element?.textContent || "").trim();
  const name = element =>
    element.getAttribute("aria-label") || element.getAttribute("alt")
    || (element.getAttribute("aria-labelledby") || "").split(" ").filter(Boolean)
      .map(id => text(document.getElementById(id))).join(" ")
    || [...(element.labels ?? [])].map(text).join(" ")
    || (element.matches("button, a, summary, h1, h2, h3, h4, th") ? text(element) : "");
  const controls = "a, button, input, select, summary, progress, video, audio, [role=slider],"
    + " [role=radiogroup], [role=group], dialog, nav, h1, h2, h3, h4";
  for (const element of document.querySelectorAll(controls)) {
    if (seen(element) && !name(element)) faults.push("no name: " + element.outerHTML.slice(0, 120));
  }
  for (const image of document.querySelectorAll("img")) {
    if (!image.hasAttribute("alt")) faults.push("no alt: " + image.outerHTML.slice(0, 120));
  }
  for (const drawing of document.querySelectorAll("svg")) {
    if (drawing.getAttribute("aria-hidden") !== "true")
      faults.push("svg: " + drawing.outerHTML.slice(0, 80));
  }
  const ids = [...document.querySelectorAll("[id]")].map(element => element.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push("id twice: " + id);
  const heads = [...document.querySelectorAll("main :is(h1, h2, h3, h4)")].filter(seen);
  if (heads.filter(head => head.tagName === "H1").length !== 1) faults.push("not one h1");
  let level = 0;
  for (const head of heads) {
    const own = Number(head.tagName[1]);
    if (own > level + 1) faults.push(`heading jumps to ${head.tagName}: ${text(head)}`);
    level = own;
  }
  for (const landmark of ["header", "main", "footer"]) {
    if (document.querySelectorAll(`#page > ${landmark}, #page > .body > ${landmark}`).length !== 1)
      faults.push("not one " + landmark);
  }
  const targets = "button, a, select, [role=slider], label:has(input)";
  for (const element of document.querySelectorAll(targets)) {
    const box = element.getBoundingClientRect();
    if (seen(element) && !element.matches("p a, .skip") && (box.width < 24 || box.height < 24))
      faults.push(`small: ${Math.round(box.width)}x${Math.round(box.height)} ${name(element)}`);
  }
  if (!document.documentElement.lang) faults.push("no language");
  return faults;
}"""

# Text whose contrast to what lies under it is below WCAG 2.2 AA. Painted by the browser itself on a
# canvas, so that color-mix and the like need no arithmetic here.
CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const under = element => {
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (style.backgroundImage !== "none" && !at.matches("body")) return null;  // seen by eye
      const colour = rgba(style.backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255];
  };
  const faults = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
    if (element.closest(":disabled, .unseen, .skip, option, noscript")) continue;
    const style = getComputedStyle(element);
    const below = under(element);
    if (below === null) continue;
    const [a, b] = [light(rgba(style.color)), light(below)].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24
      || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5))
      faults.push(`${ratio.toFixed(2)}: ${node.data.trim().slice(0, 60)}`);
  }
  return faults;
}"""


def views(browsing: Browsing, sample: Job, silent: Job, api: Client) -> Any:
    """Each kind of page in turn, by its name."""
    page = browsing.page
    broken = api.done(api.sent(b"no clip", "a-rather-long-name-of-a-damaged-file.mp4"))
    browsing.open(sample, silent, broken)
    page.get_by_role("button", name="Heat map").click()
    page.wait_for_selector(".heat-picture")
    page.wait_for_selector(".wave path", state="attached")
    page.locator("summary").click()
    yield "clip"
    page.goto(f"{browsing.address}#/clip/clip1")
    yield "silent clip"
    page.goto(f"{browsing.address}#/clip/clip2")
    page.wait_for_selector(".fault")
    yield "fault"
    page.goto(f"{browsing.address}#/compare/clip0/clip1")
    page.wait_for_selector(".compare")
    yield "compare"
    page.goto(f"{browsing.address}#/")
    page.wait_for_selector(".start")
    yield "start"
    page.get_by_role("button", name="How to read this").click()
    yield "guide"


@pytest.mark.parametrize("width", [1280, 360])
def test_everything_has_a_name_a_role_and_room(
    browse: Browse, sample: Job, silent: Job, api: Client, width: int
) -> None:
    browsing = browse(width=width, height=740)
    for name in views(browsing, sample, silent, api):
        assert browsing.page.evaluate(FAULTS) == [], name
        assert browsing.overflow <= 0, name


def test_text_stands_out_from_what_lies_under_it_in_light_and_dark(
    browse: Browse, sample: Job, silent: Job, api: Client
) -> None:
    browsing = browse()
    paper = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    for name in views(browsing, sample, silent, api):
        for scheme in ("light", "dark"):
            browsing.page.emulate_media(color_scheme=scheme)
            assert browsing.page.evaluate(CONTRAST) == [], (name, scheme)
            assert (sum(browsing.page.evaluate(paper)) > 380) == (scheme == "light")


def test_the_contrast_check_sees_pale_text(browse: Browse) -> None:
    browsing = browse()
    browsing.start()
    browsing.page.evaluate("() => document.querySelector('.lead').style.color = '#bbb'")
    assert len(browsing.page.evaluate(CONTRAST)) == 1


def test_all_can_be_done_with_the_keyboard(browse: Browse, sample: Job) -> None:
    browsing = browse()
    browsing.start()
    page, keys = browsing.page, browsing.page.keyboard

    def tab_to(selector: str) -> None:
        for _ in range(60):
            keys.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                outline = "() => getComputedStyle(document.activeElement).outlineStyle"
                hidden = page.evaluate("() => document.activeElement.matches('input[type=radio]')")
                assert hidden or page.evaluate(outline) != "none"
                return
        raise AssertionError(f"no way to {selector}")

    tab_to(".skip")
    keys.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "main"
    tab_to(".drop .button:not(.is-main)")
    keys.press("Enter")
    browsing.answered()
    page.wait_for_function("() => document.querySelector('video').readyState >= 2")
    assert page.evaluate("() => document.activeElement.tagName") == "H1"  # the new page's beginning

    tab_to(".tl-track")
    slider = page.get_by_role("slider", name="Moment in the clip")
    keys.press("End")
    assert browsing.time == pytest.approx(6, abs=0.1)
    keys.press("Home")
    keys.press("ArrowRight")
    assert browsing.time == pytest.approx(0.2, abs=0.05)
    keys.press("PageUp")
    assert browsing.time == pytest.approx(1.2, abs=0.1)
    keys.press("p")  # to the stretch that stands out, which begins at 0
    assert browsing.time == pytest.approx(0, abs=0.05)
    assert "inside a suspicious stretch" in slider.get_attribute("aria-valuetext")
    keys.press("Space")
    page.wait_for_function("() => document.querySelector('video').currentTime > 0.2")
    keys.press("Space")
    assert page.evaluate("() => document.querySelector('video').paused")

    page.locator("h1").focus()
    tab_to(".toggle:nth-of-type(2), .toggle + .toggle")
    keys.press("Enter")
    page.wait_for_selector(".heat-picture")
    page.locator("h1").focus()
    keys.press("Shift+Tab")  # back over what can be done with the clip
    tab_to(".clip .is-danger")
    keys.press("Enter")
    keys.press("Escape")
    assert page.evaluate("() => document.activeElement.matches('.is-danger')")  # where it was
    keys.press("Enter")
    tab_to("dialog .is-danger")
    keys.press("Enter")
    page.wait_for_selector(".start")


def test_nothing_moves_for_who_wants_no_motion(browse: Browse, sample: Job) -> None:
    browsing = browse(reduced_motion="reduce")
    still = sample | {"state": "queued", "position": 2, "result": None}
    browsing.page.route(
        f"**/v1/predictions/{sample['id']}", lambda route: route.fulfill(json=still)
    )
    browsing.page.route(
        "**/v1/predictions/sample", lambda route: route.fulfill(status=202, json=still)
    )
    browsing.start()
    browsing.page.get_by_role("button", name="Try the sample clip").click()
    browsing.page.wait_for_selector("progress")
    assert browsing.page.evaluate("() => document.getAnimations().length") == 0


def test_what_is_chosen_and_where_an_answer_stands_is_seen_in_forced_colours(
    browse: Browse, sample: Job
) -> None:
    browsing = browse(forced_colors="active")
    browsing.open(sample)
    colour = "e => getComputedStyle(e).backgroundColor"
    paper = browsing.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    for selector in (".marker", ".offset-marker", ".meter-bar", ".choice input:checked + span"):
        assert browsing.page.locator(selector).first.evaluate(colour) != paper, selector


def test_paper_has_the_answer_and_no_buttons(browse: Browse, sample: Job) -> None:
    browsing = browse()
    browsing.open(sample)
    page = browsing.page
    page.emulate_media(media="print")
    for selector in (".verdict", ".marker", ".stage", ".tl-track", ".segments", ".facts"):
        assert page.locator(selector).first.is_visible(), selector
    for selector in (".controls", ".clip .actions", ".rail", ".faces"):
        assert not page.locator(selector).first.is_visible(), selector


def test_a_phone_shows_the_answer_without_turning_or_zooming(browse: Browse, sample: Job) -> None:
    browsing = browse(width=360, height=740, has_touch=True, is_mobile=True)
    browsing.open(sample)
    page = browsing.page
    assert browsing.overflow <= 0
    assert page.locator(".verdict").bounding_box()["y"] < 420
    track = page.locator(".tl-track")
    track.scroll_into_view_if_needed()
    box = track.bounding_box()
    assert box["width"] > 300
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + 60)
    page.wait_for_function("() => document.querySelector('video').currentTime > 2.8")
    sizes = page.evaluate(
        "() => [...document.querySelectorAll('main *')].filter(e => e.checkVisibility()"
        " && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))"
        ".map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 12
