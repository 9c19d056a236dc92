"""What the page says when there is no answer, no server, no room, or a stranger's text to show."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import pytest

from avfake.credentials import Action, Credentials
from avfake.types import REASONS
from tests.clips import portrait, texture, write_clip
from tests.serve.page.browsing import Browsing, serving
from tests.serve.servers import Client

Browse = Callable[..., Browsing]
Job = dict[str, Any]
MARKUP = "'><img src=x onerror='window.hit=1'><script>window.hit=1</script>{name}"
NO_CLIP = {"name": "notes.mp4", "mimeType": "video/mp4", "buffer": b"this is no clip"}


def refusal(status: int, reason: str, **headers: str) -> dict[str, Any]:
    return {
        "status": status,
        "headers": {key.replace("_", "-"): value for key, value in headers.items()},
        "json": {"error": {"reason": reason, "message": "One sentence."}},
    }


def test_a_corrupt_file_is_told_in_words(browse: Browse) -> None:
    browsing = browse()
    browsing.send(NO_CLIP)
    browsing.answered()
    assert browsing.text(".fault h2") == "No video, sound or picture can be read"
    assert "notes.mp4 is damaged" in browsing.text(".fault")
    assert browsing.page.locator(".verdict").count() == 0
    with browsing.page.expect_download() as saving:
        browsing.page.get_by_role("button", name="Save report").click()
    assert "notes.mp4 is damaged" in Path(saving.value.path()).read_text("utf-8")


def test_markup_in_names_and_metadata_is_shown_as_text(browse: Browse, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "plain.mp4", [texture(64, 64)] * 10)
    marked = tmp_path / "marked.mp4"
    with av.open(str(clip)) as given, av.open(str(marked), "w") as out:
        for key in ("title", "comment", "artist"):
            out.metadata[key] = MARKUP
        stream = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    browsing = browse()
    name = MARKUP.replace("/", "")  # no file's name holds a slash
    browsing.send({"name": name, "mimeType": "video/mp4", "buffer": marked.read_bytes()})
    browsing.answered()
    browsing.page.get_by_role("button", name=re.compile("^Delete '><img")).click()
    browsing.page.get_by_role("button", name="Keep").click()
    for place in ("h1", ".rail-name"):
        assert browsing.text(place) == name
    assert browsing.page.evaluate("() => window.hit") is None
    assert browsing.page.locator("img[src=x]").count() == 0


def test_markup_in_content_credentials_is_shown_as_text(browse: Browse, sample: Job) -> None:
    said = Credentials(
        *("invalid", MARKUP), signer=MARKUP, organisation=MARKUP, signed=MARKUP, tool=MARKUP,
        actions=(Action(MARKUP, MARKUP, None, "2025-03-01T10:00:00Z"),), ingredients=2,
        problems=(MARKUP,),
    ).to_dict()  # fmt: skip
    browsing = browse()
    address = f"**/v1/predictions/{sample['id']}"
    browsing.page.route(address, lambda route: route.fulfill(json=sample | {"credentials": said}))
    browsing.open(sample)
    words = browsing.text(".credentials")
    assert words.count("<script>") == 7
    assert "does not hold" in words
    assert "not part of the probability" in words
    assert browsing.page.evaluate("() => window.hit") is None


def test_credentials_that_lie_elsewhere_are_no_broken_ones(browse: Browse, sample: Job) -> None:
    said = Credentials("remote", "They were not asked for.", problems=("http://elsewhere/a",))
    job = sample | {"credentials": said.to_dict()}
    browsing = browse()
    browsing.page.route(f"**/v1/predictions/{sample['id']}", lambda route: route.fulfill(json=job))
    browsing.open(sample)
    words = browsing.text(".credentials")
    assert "http://elsewhere/a" in words
    assert "It was not asked" in words
    assert "What does not hold" not in words


def test_a_clip_with_nothing_to_judge_gets_no_probability(browse: Browse, tmp_path: Path) -> None:
    browsing = browse()
    browsing.send(write_clip(tmp_path / "blobs.mp4", [texture(120, 160)] * 30))
    browsing.answered()
    assert browsing.text(".verdict-name") == "No answer"
    assert "no face found" in browsing.text(".branches")
    assert "%" not in browsing.text(".answer")
    assert browsing.page.locator(".figures").count() == 0  # there are none to be listed


def test_a_portrait_has_boxes_and_a_heat_map_and_no_timeline(
    browse: Browse, tmp_path: Path
) -> None:
    still = tmp_path / "portrait.png"
    cv2.imwrite(str(still), cv2.resize(portrait(), (600, 600))[..., ::-1])
    browsing = browse()
    browsing.send(still)
    browsing.answered()
    page = browsing.page
    page.locator(".face").wait_for()
    assert page.get_by_role("img", name="The picture").is_visible()
    assert page.locator(".timeline").count() == 0
    page.get_by_role("button", name="Heat map").click()
    page.get_by_role("img", name=re.compile("Heat map of face 1")).wait_for()


def test_a_voice_recording_plays_under_its_lane(browse: Browse, sample_path: Path) -> None:
    voice = sample_path.with_name("voice.m4a")
    content = _sound_of(sample_path)
    browsing = browse()
    browsing.send({"name": voice.name, "mimeType": "audio/mp4", "buffer": content})
    browsing.answered()
    page = browsing.page
    assert page.locator(".stage").count() == 0
    page.wait_for_selector(".wave path", state="attached")
    page.wait_for_function("() => document.querySelector('audio').readyState >= 2")
    page.get_by_role("slider", name="Moment in the clip").press("End")
    assert page.evaluate("() => document.querySelector('audio').currentTime") > 5.5


def test_a_full_server_is_tried_again(browse: Browse) -> None:
    browsing = browse()
    browsing.expected = re.compile("429")
    tries: list[int] = []

    def answer(route: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            route.fulfill(**refusal(429, "busy", Retry_After="2"))
        else:
            route.continue_()

    browsing.page.route("**/v1/predictions", answer)
    browsing.send(NO_CLIP)
    browsing.page.get_by_text(re.compile(r"server is full. Trying again in \d second")).wait_for()
    browsing.answered()
    assert len(tries) == 2


def test_a_file_over_the_limit_is_not_even_sent(browse: Browse, api: Client) -> None:
    browsing = browse()
    about = api.get("/v1/about").json
    about["limits"]["bytes"] = 10
    browsing.page.route("**/v1/about", lambda route: route.fulfill(json=about))
    browsing.send(NO_CLIP)
    browsing.page.get_by_role("heading", name="The file is too large").wait_for()
    assert "up to 10 bytes" in browsing.text(".fault")
    assert not any(url.endswith("/v1/predictions") for url in browsing.asked)
    browsing.page.get_by_role("button", name="Remove from the list").click()
    browsing.page.wait_for_selector(".start")


def test_other_models_are_not_judged_by_the_card_of_ours(browse: Browse, api: Client) -> None:
    browsing = browse()
    about = api.get("/v1/about").json
    assert about["shipped"]
    browsing.page.route("**/v1/about", lambda route: route.fulfill(json=about | {"shipped": False}))
    browsing.start()
    browsing.page.get_by_role("button", name="How to read this").click()
    text = browsing.text("dialog")
    assert "must be asked of whoever made them" in text
    assert "16 clips" not in text


def test_an_upload_that_breaks_off_can_be_tried_again(browse: Browse) -> None:
    browsing = browse()
    browsing.expected = re.compile("ERR_FAILED")
    browsing.page.route("**/v1/predictions", lambda route: route.abort())
    browsing.send(NO_CLIP)
    browsing.page.get_by_role("heading", name="The upload broke off").wait_for()
    browsing.page.unroute("**/v1/predictions")
    browsing.page.get_by_role("button", name="Try again").click()
    browsing.page.get_by_role("heading", name="No video, sound or picture can be read").wait_for()


def test_a_server_that_falls_silent_is_told_and_its_return_is_noticed(
    browse: Browse, sample: Job
) -> None:
    browsing = browse()
    browsing.expected = re.compile("ERR_FAILED")
    here = {"state": "working", "progress": {"stage": "faces", "share": 0.1}, "result": None}
    lost: list[int] = []

    def answer(route: Any) -> None:
        if lost:
            lost.append(1)
        if len(lost) == 2:
            route.fulfill(body='{"id": "half of an ans')
        elif lost:
            route.abort()
        else:
            route.fulfill(json=sample | here)

    browsing.page.route(f"**/v1/predictions/{sample['id']}", answer)
    browsing.page.route(
        "**/v1/predictions/sample", lambda route: route.fulfill(status=202, json=sample | here)
    )
    browsing.start()
    browsing.page.get_by_role("button", name="Try the sample clip").click()
    browsing.page.get_by_text("Following the faces, 10%").first.wait_for()
    lost.append(1)
    browsing.page.get_by_role("alert").get_by_text("The server does not answer").wait_for()
    assert browsing.page.locator(".fault").count() == 0
    while len(lost) < 3:
        browsing.page.wait_for_timeout(100)
    lost.clear()
    here |= {"state": "done", "progress": None, "result": sample["result"]}
    browsing.answered()
    assert not browsing.page.get_by_text("The server does not answer").is_visible()


def test_a_clip_that_the_server_has_forgotten_is_told(browse: Browse, sample: Job) -> None:
    browsing = browse()
    browsing.expected = re.compile("404")
    browsing.open(sample | {"id": "x" * 22, "name": "old.mp4"})
    assert browsing.text(".fault h2") == "The server no longer has this clip"


def test_a_page_without_its_server_says_so(browse: Browse) -> None:
    browsing = browse()
    browsing.expected = re.compile("ERR_FAILED")
    browsing.page.route("**/v1/about", lambda route: route.abort())
    browsing.start()
    assert browsing.text("h1") == "The server does not answer"
    browsing.page.unroute("**/v1/about")
    browsing.page.get_by_role("button", name="Try again").click()
    browsing.page.wait_for_selector(".start")


def test_a_token_is_asked_for_and_good_for_the_media_too(browse: Browse) -> None:
    token = "a-token-of-a-test-0123456789"
    with serving(AVFAKE_TOKEN=token) as address:
        browsing = browse(where=address)
        browsing.expected = re.compile("401")
        browsing.start()
        assert browsing.text("h1") == "A token is needed"
        browsing.page.get_by_label("Token").fill(token)
        browsing.page.get_by_role("button", name="Go on").click()
        browsing.page.get_by_role("button", name="Try the sample clip").click()
        browsing.answered()
        browsing.page.wait_for_function("() => document.querySelector('video').readyState >= 2")
        browsing.page.get_by_role("radio", name="Spectrogram").check()
        browsing.page.get_by_role("img", name=re.compile("Spectrogram")).wait_for()

        other = browse(where=address)
        other.page.goto(f"{address}#token={token}")
        other.page.wait_for_selector(".start")
        assert token not in other.page.url


@pytest.mark.parametrize("reason", ["worker_crashed", "from_the_future"])
def test_every_reason_has_words(browse: Browse, sample: Job, reason: str) -> None:
    result = sample["result"] | {
        "status": "error", "reason": reason, "message": "It failed.", "verdict": None,
        "fake_probability": None, "branches": {}, "tracks": [], "segments": [], "media": None,
    }  # fmt: skip
    browsing = browse()
    job = sample | {"result": result, "media": None}
    browsing.page.route(f"**/v1/predictions/{sample['id']}", lambda route: route.fulfill(json=job))
    browsing.open(sample)
    assert len(browsing.text(".fault h2")) > 10
    assert "It failed." in browsing.text(".fault")


def test_every_absence_has_words(browse: Browse) -> None:
    browsing = browse()
    browsing.start()
    words = browsing.page.evaluate(
        "async () => (await (await fetch('page/texts.json')).json()).absent"
    )
    assert set(REASONS) <= set(words)


def _sound_of(clip: Path) -> bytes:
    held = io.BytesIO()
    with av.open(str(clip)) as given, av.open(held, "w", format="ipod") as out:
        stream = out.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return held.getvalue()
