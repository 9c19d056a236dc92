"""A clip's way through the page: sent, followed, answered, looked at, compared, kept, deleted."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.serve.page.browsing import Browsing
from tests.serve.servers import Client

PICTURE = "docs/page.png"
Browse = Callable[..., Browsing]
Job = dict[str, Any]


def test_a_file_is_sent_followed_and_answered(browse: Browse, sample_path: Path) -> None:
    content = sample_path.read_bytes()
    browsing = browse()
    browsing.send({"name": "mine.mp4", "mimeType": "video/mp4", "buffer": content})
    browsing.answered()

    assert browsing.text("h1") == "mine.mp4"
    assert browsing.text(".verdict-name") == "Uncertain"
    assert re.fullmatch(r"\d\d% probability of a fake", browsing.text(".verdict-figure"))
    notes = browsing.page.locator(".branch-note").all_inner_texts()
    assert len(notes) == 3
    assert re.search(r"sound \d+ ms (early|late) \(weak match\)", notes[2])
    assert hashlib.sha256(content).hexdigest() in browsing.text(".facts")
    assert "default" in browsing.text(".facts")
    told = browsing.page.evaluate("() => told")
    assert told[0] in ("mine.mp4: Upload", "mine.mp4: Queue")  # a short upload may go unseen
    assert re.match(r"mine\.mp4: Uncertain, \d\d%", told[-1])
    assert browsing.page.title().startswith("Uncertain, ")


def test_progress_is_shown_and_a_clip_at_work_can_be_stopped(
    browse: Browse, sample: Job, api: Client
) -> None:
    browsing = browse()
    stage: Job = {"state": "queued", "position": 3, "progress": None, "result": None, "media": None}
    asked: list[str] = []

    def answer(route: Any) -> None:
        asked.append(route.request.method)
        if route.request.method == "DELETE":
            route.fulfill(status=204)
        else:
            route.fulfill(json=sample | stage)

    browsing.page.route(f"**/v1/predictions/{sample['id']}", answer)
    browsing.page.route(
        "**/v1/predictions/sample", lambda route: route.fulfill(status=202, json=sample | stage)
    )
    browsing.start()
    browsing.page.get_by_role("button", name="Try the sample clip").click()
    browsing.page.get_by_text("2 clips are ahead").first.wait_for()
    stage |= {"state": "working", "position": None, "progress": {"stage": "sound", "share": 0}}
    browsing.page.get_by_text("Listening to the sound").first.wait_for()
    stage |= {"progress": {"stage": "faces", "share": 0.42}}
    browsing.page.get_by_text("Following the faces, 42%").first.wait_for()
    assert browsing.page.locator("progress").evaluate("bar => bar.value") == pytest.approx(0.42)
    assert browsing.text("[aria-current=step]") == "Faces"
    assert browsing.page.title().startswith("Following the faces, 42%")

    browsing.page.get_by_role("button", name="Stop and delete", exact=True).click()
    browsing.page.wait_for_selector(".start")
    assert asked[-1] == "DELETE"
    assert browsing.page.locator(".rail-list li").count() == 0


def test_an_upload_shows_its_share_and_can_be_stopped(browse: Browse, tmp_path: Path) -> None:
    browsing = browse()
    browsing.start()
    line = browsing.context.new_cdp_session(browsing.page)
    line.send("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 100_000}
    line.send("Network.emulateNetworkConditions", slow)
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(3_000_000))
    browsing.page.set_input_files("input[type=file]", large)
    browsing.page.get_by_text(re.compile(r"Sending, [1-9]\d?%")).first.wait_for()
    assert 0 < browsing.page.locator("progress").evaluate("bar => bar.value") < 1
    browsing.page.get_by_role("button", name="Stop and delete", exact=True).click()
    browsing.page.wait_for_selector(".start")
    assert browsing.page.locator(".rail-list li").count() == 0


def test_files_may_be_dropped_anywhere(browse: Browse) -> None:
    browsing = browse()
    browsing.start()
    bring = """name => {
      const files = new DataTransfer();
      files.items.add(new File(["no clip"], "dropped.mp4"));
      document.body.dispatchEvent(
        new DragEvent(name, { dataTransfer: files, bubbles: true, cancelable: true }));
    }"""
    browsing.page.evaluate(bring, "dragenter")
    browsing.page.get_by_text("Let go to have them looked at").wait_for()
    browsing.page.evaluate(bring, "drop")
    browsing.answered()
    assert not browsing.page.get_by_text("Let go to have them looked at").is_visible()
    assert browsing.text("h1") == "dropped.mp4"


def test_a_file_in_the_clipboard_is_pasted(browse: Browse) -> None:
    browsing = browse()
    browsing.context.grant_permissions(["clipboard-read", "clipboard-write"])
    browsing.start()
    page = browsing.page
    page.keyboard.press("Control+v")  # an empty clipboard, or words: nothing happens
    page.evaluate(
        """async () => {
          const drawn = new OffscreenCanvas(64, 64);
          drawn.getContext("2d").fillRect(0, 0, 64, 64);
          const picture = await drawn.convertToBlob({ type: "image/png" });
          await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
        }"""
    )
    assert browsing.text("h1") == "How likely is this clip a deepfake?"
    page.keyboard.press("Control+v")
    browsing.answered()
    assert browsing.text("h1") == "image.png"
    assert browsing.text(".verdict-name") == "No answer"  # it is black


def test_a_click_on_the_timeline_seeks_and_the_playhead_follows(at_sample: Browsing) -> None:
    page = at_sample.page
    page.locator(".tl-track").evaluate("e => e.scrollIntoView({ block: 'center' })")
    box = page.locator(".tl-track").bounding_box()

    def press(share: float) -> None:
        page.mouse.move(box["x"] + share * box["width"], box["y"] + 60)

    press(0.5)
    page.mouse.down()
    assert at_sample.time == pytest.approx(3, abs=0.05)
    press(0.75)  # dragged on
    page.mouse.up()
    assert at_sample.time == pytest.approx(4.5, abs=0.05)
    slider = page.get_by_role("slider", name="Moment in the clip")
    assert float(slider.get_attribute("aria-valuenow")) == pytest.approx(4.5, abs=0.1)
    assert slider.get_attribute("aria-valuetext").startswith("4.5 seconds; Picture 4")
    head = page.locator(".playhead").bounding_box()
    assert head["x"] + 1 == pytest.approx(box["x"] + 0.75 * box["width"], abs=2)

    page.locator(".segment").first.click()  # the stretch that stands out begins at 0
    assert at_sample.time == pytest.approx(0, abs=0.05)
    assert "inside a suspicious stretch, Lip-sync" in slider.get_attribute("aria-valuetext")

    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("() => document.querySelector('video').currentTime > 0.4")
    page.get_by_role("button", name="Pause").click()
    left = page.locator(".playhead").evaluate("head => parseFloat(head.style.left)")
    assert left == pytest.approx(100 * at_sample.time / 6, abs=1.5)


def test_boxes_lie_on_the_faces_at_every_size(at_sample: Browsing, sample: Job) -> None:
    page = at_sample.page
    boxes = {box[0]: box[1:] for box in sample["result"]["tracks"][0]["boxes"]}
    page.get_by_role("slider", name="Moment in the clip").press("Home")
    for width in (1280, 700, 360):
        page.set_viewport_size({"width": width, "height": 700})
        page.wait_for_timeout(200)
        stage = page.locator(".stage").bounding_box()
        scale = min(stage["width"], stage["height"]) / 384  # the sample is square
        left, top, right, bottom = boxes[0.0]
        face = page.locator(".face").bounding_box()
        margin = (stage["width"] - 384 * scale) / 2
        assert face["x"] - stage["x"] == pytest.approx(margin + left * scale, abs=2)
        assert face["width"] == pytest.approx((right - left) * scale, abs=2)
        assert face["height"] == pytest.approx((bottom - top) * scale, abs=2)
    assert page.locator(".face").get_attribute("data-level") == "unsure"
    assert page.locator(".face").evaluate("e => getComputedStyle(e).borderTopStyle") == "dashed"
    page.get_by_role("button", name="Faces").click()
    assert not page.locator(".face").is_visible()


def test_a_heat_map_comes_on_demand_for_the_playheads_moment(at_sample: Browsing) -> None:
    page = at_sample.page
    assert not any("/heatmap?" in url for url in at_sample.asked)
    page.get_by_role("button", name="Heat map").click()
    first = page.get_by_role("img", name=re.compile(r"Heat map of face 1 at 0:00\.\d"))
    first.wait_for()
    assert first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    page.get_by_role("slider", name="Moment in the clip").press("End")
    page.get_by_role("img", name=re.compile(r"Heat map of face 1 at 0:05\.\d")).wait_for()
    page.get_by_role("button", name="Heat map").click()
    assert not page.locator(".heat").is_visible()


def test_the_sound_is_a_waveform_or_a_spectrogram(at_sample: Browsing) -> None:
    page = at_sample.page
    page.wait_for_selector(".wave path", state="attached")
    page.get_by_role("radio", name="Spectrogram").check()
    picture = page.get_by_role("img", name=re.compile("Spectrogram"))
    assert picture.evaluate("image => image.naturalWidth") > 100
    lane = page.locator(".lane.is-sound").bounding_box()
    assert picture.bounding_box()["width"] == pytest.approx(lane["width"], abs=1)


def test_rarer_fakes_make_the_same_evidence_worth_less(at_sample: Browsing) -> None:
    slider = at_sample.page.get_by_role("slider", name="How rare fakes are")
    assert "about 62 would be fakes" in at_sample.text(".rarity-told")
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "1 clip in 3 is a fake"
    assert "about 45 would be fakes" in at_sample.text(".rarity-told")
    slider.press("End")
    assert "fewer than one" in at_sample.text(".rarity-told")


def test_two_clips_stand_side_by_side(browse: Browse, sample: Job, silent: Job) -> None:
    browsing = browse()
    browsing.open(sample, silent)
    page = browsing.page
    page.get_by_role("checkbox", name="Choose sample.mp4 to compare").check()
    page.get_by_role("checkbox", name="Choose silent.mp4 to compare").check()
    page.get_by_role("button", name="Side by side").click()
    page.wait_for_selector(".compare")
    assert page.locator(".compare h2").all_inner_texts() == ["sample.mp4", "silent.mp4"]
    assert page.locator(".compare video").count() == 2
    verdicts = [page.locator(".verdict").nth(side).bounding_box()["y"] for side in (0, 1)]
    assert verdicts[0] == pytest.approx(verdicts[1], abs=1)  # in line with each other
    ticks = page.locator(".tl-axis").first.locator(".tick:visible")
    places = [tick.bounding_box() for tick in ticks.all()]
    assert len(places) > 2
    assert all(a["x"] + a["width"] <= b["x"] for a, b in itertools.pairwise(places))
    page.wait_for_function(
        "() => [...document.querySelectorAll('video')].every(video => video.readyState >= 2)"
    )
    page.get_by_role("button", name="Play both").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('video')].every(video => video.currentTime > 0.1)"
    )
    page.reload()
    page.wait_for_selector(".compare .verdict")


def test_a_silent_clip_says_which_branches_are_absent(browse: Browse, silent: Job) -> None:
    browsing = browse()
    browsing.open(silent)
    notes = browsing.page.locator(".branch-note").all_inner_texts()
    assert notes[1:] == ["there is no sound", "there is no sound"]
    assert browsing.page.locator(".lane.is-absent").count() == 2
    assert browsing.page.locator(".lane.is-sound").count() == 0


def test_answer_and_report_can_be_saved(at_sample: Browsing, sample: Job, tmp_path: Path) -> None:
    with at_sample.page.expect_download() as download:
        at_sample.page.get_by_role("button", name="Save JSON").click()
    assert download.value.suggested_filename == "sample.avfake.json"
    download.value.save_as(tmp_path / "answer.json")
    saved = json.loads((tmp_path / "answer.json").read_text())
    assert saved["result"] == sample["result"]
    assert saved["sha256"] == sample["sha256"]

    with at_sample.page.expect_download() as download:
        at_sample.page.get_by_role("button", name="Save report").click()
    assert download.value.suggested_filename == "sample.avfake.html"
    download.value.save_as(tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text()
    assert sample["sha256"] in report
    assert "<script" not in report


def test_history_outlives_a_reload_and_ends_with_deletion(browse: Browse, api: Client) -> None:
    browsing = browse()
    browsing.send({"name": "short-lived.mp4", "mimeType": "video/mp4", "buffer": b"no clip"})
    browsing.answered()
    page = browsing.page
    id_ = page.evaluate("() => JSON.parse(sessionStorage['avfake.clips'])[0].id")
    page.reload()
    page.get_by_role("link", name="short-lived.mp4").wait_for()
    browsing.answered()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Keep").click()
    assert api.get(f"/v1/predictions/{id_}").status == 200
    page.get_by_role("button", name="Delete short-lived.mp4").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_selector(".start")
    assert page.locator(".rail-list li").count() == 0
    assert api.get(f"/v1/predictions/{id_}").status == 404


def test_the_picture_of_the_readme(
    browse: Browse, sample: Job, silent: Job, repository: Path, tmp_path: Path
) -> None:
    """AVFAKE_PICTURES=1 puts it in its place; else it is only made, and the tree stays clean."""
    browsing = browse(height=760)
    browsing.open(sample, silent)
    page = browsing.page
    page.wait_for_selector(".wave path", state="attached")
    page.get_by_role("slider", name="Moment in the clip").press("PageUp")
    page.evaluate("() => (document.activeElement.blur(), scrollTo(0, 0))")
    page.wait_for_timeout(400)
    shot = tmp_path / "page.png"
    end = page.locator(".timeline").evaluate("e => e.getBoundingClientRect().bottom") + 20
    part = {"x": 0, "y": 0, "width": 1280, "height": end}
    page.screenshot(path=shot, full_page=True, clip=part)
    with Image.open(shot) as picture:
        # Six bits a colour: two thirds of the bytes, and flat colours stay flat.
        picture.convert("RGB").point([v & 0xFC | v >> 6 for v in range(256)] * 3).save(
            shot, optimize=True
        )
    assert 30_000 < shot.stat().st_size < 300_000
    if os.environ.get("AVFAKE_PICTURES"):
        target = repository / PICTURE
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(shot.read_bytes())
