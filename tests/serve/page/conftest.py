"""A real server, headless Chromium, and pages that report what went wrong in them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.clips import remux
from tests.serve.page.browsing import Browsing, serving
from tests.serve.servers import Client

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    """One browser for all tests. (It must not outlive them: asyncio.run fails beside it.)"""
    where = shutil.which("chromium") or shutil.which("chromium-browser")
    if where is None:
        pytest.skip("there is no chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        # No sandbox: it needs privileges that containers lack, and all pages here are our own.
        browser = playwright.chromium.launch(executable_path=where, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def address() -> Iterator[str]:
    """Where `avfake serve` runs, in a process of its own."""
    with serving() as where:
        yield where


@pytest.fixture(scope="package")
def api(address: str) -> Client:
    return Client.of(address)


@pytest.fixture(scope="package")
def sample(api: Client) -> dict[str, Any]:
    """The sample clip, judged once."""
    reply = api.ask("POST", "/v1/predictions/sample")
    assert reply.status == 202, reply.body
    return api.done(str(reply.json["id"]), patience=180)


@pytest.fixture(scope="package")
def silent(api: Client, sample_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The sample without its sound, judged once."""
    clip = remux(sample_path, tmp_path_factory.mktemp("silent") / "silent.mp4", with_sound=False)
    return api.done(api.sent(clip.read_bytes(), "silent.mp4"), patience=180)


@pytest.fixture
def browse(chromium: Any, address: str) -> Iterator[Callable[..., Browsing]]:
    """Opens pages, each in a browser session of its own.

    Afterwards no page may have raised or logged an error that was not expected, or have asked any
    other host for anything.
    """
    opened: list[Browsing] = []

    def begin(width: int = 1280, height: int = 860, where: str = address, **more: Any) -> Browsing:
        context = chromium.new_context(viewport={"width": width, "height": height}, **more)
        opened.append(Browsing(context, where))
        return opened[-1]

    yield begin
    for one in opened:
        one.context.close()
    for one in opened:
        assert one.errors == []
        hosts = {
            urlsplit(url).netloc for url in one.asked if not url.startswith(("blob:", "data:"))
        }
        assert hosts <= {urlsplit(one.address).netloc}


@pytest.fixture
def at_sample(browse: Callable[..., Browsing], sample: dict[str, Any]) -> Browsing:
    """The page of the judged sample clip, at 1280 x 860."""
    browsing = browse()
    browsing.open(sample)
    return browsing
