"""What lies elsewhere is judged as if it lay here, if its protocol was named; nothing stays."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from avfake.cli import main
from avfake.remote import Fetching, is_url, protocols
from avfake.types import AvfakeError, Prediction
from avfake.workers import Job, judge_each
from tests.processes import gone

fsspec = pytest.importorskip("fsspec")

LENGTH = 100_000


class Reader:
    """Answers with what it read; "broken" content is told as the detector does."""

    def predict(self, path: str, longest: float | None = None) -> Prediction:
        name = Path(path).name
        try:
            content = Path(path).read_bytes()
        except OSError:
            return Prediction(path, "error", "not_found", f"There is no file {name}.")
        if content.startswith(b"broken"):
            return Prediction(path, "error", "not_media", f"{name} is damaged.")
        mode = os.stat(path).st_mode & 0o777
        seconds = {"bytes": float(len(content)), "mode": float(mode)}
        return Prediction(path, "ok", logit=0.0, verdict="uncertain", seconds=seconds)


class Handler(BaseHTTPRequestHandler):
    """Does what the path says."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        what = self.path.split("?")[0].strip("/").removesuffix(".mp4")
        targets = {
            "to-file": "file:///etc/passwd",
            "to-https": f"https://{self.headers['Host']}/whole.mp4",
            "to-whole": "/whole.mp4",
        }
        if what in targets:
            self.send_response(302)
            self.send_header("Location", targets[what])
            self.end_headers()
            return
        if what in ("403", "404"):
            self.send_error(int(what))
            return
        content = b"broken" if what == "broken" else b"x" * LENGTH
        sizes = {
            "cut": 2 * LENGTH,
            "slow": 2 * LENGTH,
            "endless": None,
            "lying": 10 if not body else None,
        }
        size = sizes.get(what, len(content))
        self.send_response(200)
        if size is not None:
            self.send_header("Content-Length", str(size))
        self.end_headers()
        if body:
            self.wfile.write(content)
            if what == "slow":
                time.sleep(60)
            while what in ("endless", "lying"):
                self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """Nothing: clients that have heard enough hang up."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; nothing may be left in it."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert not list(folder.iterdir())


def judged(url: str, *allowed: str, most: int = 10 * LENGTH) -> Prediction:
    return Fetching(Reader, allowed, most)().predict(url)


def test_what_an_address_holds_is_judged_under_that_address(server: str) -> None:
    url = f"http://{server}/whole.mp4"
    answer = judged(url, "http")
    assert (answer.path, answer.status, answer.seconds["bytes"]) == (url, "ok", LENGTH)
    assert answer.seconds["mode"] == 0o600
    assert judged(f"http://{server}/to-whole.mp4", "http").seconds["bytes"] == LENGTH
    with fsspec.open("memory://folder/clip.mp4", "wb") as file:
        file.write(b"x" * 7)
    assert judged("memory://folder/clip.mp4", "memory").seconds["bytes"] == 7


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("404", "it is not there|answers 404"),
        ("403", "answers 403"),
        ("cut", "broke off"),
        ("to-file", "lies at file|NonHttpUrl"),
        ("to-https", "lies at https, which --fetch does not name"),
    ],
)
def test_what_cannot_be_fetched_says_why_and_no_secret(server: str, what: str, why: str) -> None:
    url = f"http://user:secret@{server}/{what}.mp4?signature=secret"
    answer = judged(url, "http")
    assert (answer.path, answer.status, answer.reason) == (url, "error", "not_fetched")
    assert answer.message is not None
    assert answer.message.startswith(f"{what}.mp4 could not be fetched: ")
    assert re.search(why, answer.message)
    assert "secret" not in answer.message
    assert server not in answer.message


@pytest.mark.parametrize("what", ["whole", "endless", "lying"])
def test_what_is_larger_than_the_limit_is_told_as_for_files(server: str, what: str) -> None:
    most = LENGTH - 1 if what == "whole" else 10 * LENGTH
    answer = judged(f"http://{server}/{what}.mp4", "http", most=most)
    text = f"{what}.mp4 could not be fetched: it has more than {most} bytes."
    assert (answer.reason, answer.message) == ("file_too_large", text)


@pytest.mark.parametrize("url", ["http://[/a.mp4", "http://a:b/a.mp4", "http:///a.mp4", "http://"])
def test_an_address_that_is_none_costs_its_own_row(url: str) -> None:
    """A list may be of a stranger's making."""
    answer = judged(url, "http")
    name = "a.mp4" if url.endswith("a.mp4") else "The address"
    text = f"{name} could not be fetched: its address is not valid."
    assert (answer.status, answer.reason, answer.message) == ("error", "not_fetched", text)


def test_messages_name_the_file_and_not_where_it_lay_meanwhile(server: str) -> None:
    answer = judged(f"http://{server}/broken.mp4?signature=secret", "http")
    assert (answer.reason, answer.message) == ("not_media", "broken.mp4 is damaged.")


def test_nobody_there_is_told(scratch: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    answer = judged(f"http://127.0.0.1:{port}/a.mp4", "http")
    text = f"a.mp4 could not be fetched: {os.strerror(errno.ECONNREFUSED)}."
    assert (answer.reason, answer.message) == ("not_fetched", text)


def test_a_protocol_that_was_not_named_is_a_file_name(server: str, tmp_path: Path) -> None:
    local = tmp_path / "a.mp4"
    local.write_bytes(b"x")
    for url in (f"http://{server}/whole.mp4", local.as_uri(), f"simplecache::{local.as_uri()}"):
        assert judged(url, "s3", "memory").reason == "not_found"
    assert judged(local.as_uri(), "file").status == "ok"
    assert judged(str(local), "file").status == "ok"
    assert not is_url("s3:/bucket/a.mp4", ("s3",))


def test_addresses_within_addresses_are_refused(server: str) -> None:
    answer = judged(f"memory://a.zip::http://{server}/whole.mp4", "memory", "http")
    assert (answer.reason, "within" in str(answer.message)) == ("not_fetched", True)


def test_a_killed_worker_leaves_nothing(server: str, scratch: Path) -> None:
    """Neither one that is stopped for its time-out nor one that is killed with its parent."""
    load = Fetching(Reader, ("http",), 10 * LENGTH)
    slow = f"http://user:secret@{server}/slow.mp4?signature=secret"
    ((_, answer),) = judge_each([Job(slow, timeout=1.0)], load, 1)
    told = answer.path, answer.reason, answer.message
    assert told == (slow, "timeout", "slow.mp4 took more than 1 s.")
    code = (
        "import os\nfrom tests.test_remote import Fetching, Reader\n"
        "print(os.getpid(), flush=True)\n"
        f"Fetching(Reader, ('http',), {10 * LENGTH})().predict('{slow}')"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1.0)
        assert process.poll() is None  # it waits for the second half
        assert not list(scratch.iterdir())
        process.send_signal(signal.SIGKILL)
    assert gone(process.pid)


@pytest.mark.parametrize("text", ["gopher", "https,local", "simplecache", "https://"])
def test_protocols_that_cannot_be_named_are_told(text: str) -> None:
    with pytest.raises(AvfakeError, match="cannot be fetched from") as error:
        protocols(text)
    assert error.value.reason == "usage"
    assert protocols(" HTTPS, memory") == ("https", "memory")


def test_a_protocol_that_cannot_be_had_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(AvfakeError, match="pip install gcsfs") as error:
        protocols("gs")
    assert error.value.reason == "needs_extra"

    def fail(name: str) -> None:
        raise ValueError("Must provide an account name")

    monkeypatch.setattr(fsspec, "filesystem", fail)
    with pytest.raises(AvfakeError, match="az cannot begin: Must provide") as error:
        protocols("az")
    assert error.value.reason == "usage"


def test_batch_takes_addresses_as_inputs_and_in_lists(
    server: str,
    tmp_path: Path,
    sample_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")  # its own temporary file is not ours to judge
    listed, out = tmp_path / "list.txt", tmp_path / "out.jsonl"
    listed.write_text(f"http://{server}/404.mp4\n{sample_path}\n")
    url = f"http://{server}/broken.mp4"
    inputs = [url, "--list", str(listed), "--out", str(out), "--workers", "1", "--brief"]
    assert main(["batch", *inputs]) == 2  # there is no file of that name
    assert main(["batch", *inputs, "--fetch", "http"]) == 1
    before = out.read_text()
    rows = [json.loads(line) for line in before.splitlines()]
    assert {row["path"]: row["reason"] for row in rows} == {
        url: "not_media",
        f"http://{server}/404.mp4": "not_fetched",
        str(sample_path): None,
    }
    capsys.readouterr()
    assert main(["batch", *inputs, "--fetch", "http", "--resume"]) == 1
    assert "judged now: 0" in capsys.readouterr().out
    assert out.read_text() == before
