"""One browser session, and what the tests ask of it again and again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 120_000  # milliseconds: judging a clip takes a second, but not on a busy machine

# Before the page's own script: the clips of a session, and a diary of what is told aloud.
SEED = """
if (!sessionStorage.getItem("seeded")) {
  sessionStorage.setItem("seeded", "yes");
  sessionStorage.setItem("avfake.clips", JSON.stringify(%s));
}
"""
DIARY = """
window.told = [];
addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("told");
  new MutationObserver(() => place.textContent && told.push(place.textContent))
    .observe(place, { childList: true, characterData: true, subtree: true });
});
"""


class Browsing:
    """A page at `address` in `context`. `expected`: console errors that a test brings about."""

    def __init__(self, context: Any, address: str) -> None:
        self.context, self.address = context, address
        self.errors: list[str] = []
        self.asked: list[str] = []
        self.expected: re.Pattern[str] | None = None
        context.set_default_timeout(PATIENCE)
        context.add_init_script(DIARY)
        self.page = context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._console)
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _console(self, message: Any) -> None:
        if message.type != "error":
            return
        if self.expected is None or not self.expected.search(message.text):
            self.errors.append(message.text)

    def start(self) -> None:
        """The first page."""
        self.page.goto(self.address)
        self.page.wait_for_selector(".start, .trouble")

    def open(self, *jobs: dict[str, Any], compare: bool = False) -> None:
        """As after a reload in a session that has these clips: the first one's page."""
        clips = [
            {"key": f"clip{index}", "id": job["id"], "name": job["name"], "size": job["size"]}
            for index, job in enumerate(jobs)
        ]
        self.context.add_init_script(SEED % json.dumps(clips))
        route = "compare/clip0/clip1" if compare else "clip/clip0"
        self.page.goto(f"{self.address}#/{route}")
        self.page.wait_for_selector(".compare" if compare else ".verdict, .fault")
        if self.page.locator("video").count():
            self.page.wait_for_function("() => document.querySelector('video').readyState >= 2")

    def send(self, *files: Any) -> None:
        """Choose files as the file dialog would; paths, or Playwright's file payloads."""
        self.start()
        self.page.set_input_files("input[type=file]", list(files))

    def answered(self) -> None:
        self.page.wait_for_selector(".verdict, .fault")

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    @property
    def time(self) -> float:
        """Where the video is, in seconds."""
        return float(self.page.evaluate("() => document.querySelector('video').currentTime"))

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        script = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.page.evaluate(script))


@contextmanager
def serving(**environment: str) -> Iterator[str]:
    """`avfake serve` on a free port, in a process of its own; yields its address."""
    command = [sys.executable, "-m", "avfake.cli", "serve", "--port", "0"]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=said, text=True, env=os.environ | environment
        )
        try:
            assert process.stdout is not None
            yield _address(process.stdout, said)
        finally:
            process.terminate()
            process.communicate(timeout=60)


def _address(lines: Any, said: Any) -> str:
    for line in lines:
        if found := re.search(r"http://\S+/", line):
            return found.group()
    said.seek(0)
    raise AssertionError(f"the server did not start: {said.read()}")
