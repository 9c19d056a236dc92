"""The real command with the real models: from a clip to its answer, and every way to end it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from avfake.serve.schemas import Job, Wave
from avfake.serve.server import listen
from avfake.serve.settings import Settings
from avfake.types import AvfakeError, Prediction
from tests.clips import remux, write_clip
from tests.processes import gone
from tests.serve.servers import BOUNDARY, TOKEN, Client, form


def usual_signals() -> None:
    """Processes that a shell starts in the background ignore SIGINT, and so do their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def command(folder: Path, *options: str, **environment: str) -> Iterator[tuple[Any, Client]]:
    """`avfake serve` in a process of its own whose temporary files lie in `folder`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "avfake.cli", "serve", "--port", "0", *options],
        env=os.environ | {"TMPDIR": str(folder)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=usual_signals,
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        found = re.search(r"http://\S+", lines[1])
        assert found is not None, (lines, process.stderr.read() if process.stderr else "")
        yield process, Client.of(found[0])
    finally:
        process.kill()
        process.communicate()


def clips(folder: Path) -> list[Path]:
    return list(folder.glob("avfake-*/files/*"))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with command(tmp_path_factory.mktemp("real")) as (_, client):
        yield client


@pytest.fixture(scope="module")
def sample(real: Client, sample_path: Path) -> dict[str, Any]:
    """The sample, sent as any clip."""
    return real.done(real.sent(sample_path.read_bytes(), "sample.mp4"))


def test_the_answer_is_the_detectors(sample: dict[str, Any], sample_prediction: Prediction) -> None:
    Job.model_validate(sample)
    expected = sample_prediction.to_dict()
    result = sample["result"]
    for name in ("status", "fake_probability", "verdict", "segments", "media", "bundle", "tracks"):
        assert result[name] == expected[name], name
    assert result["branches"].keys() == expected["branches"].keys()
    assert sample["media"] == {
        "url": f"/v1/predictions/{sample['id']}/media",
        "preview": False,
        "ready": True,
        "kind": "video",
    }


def test_the_sample_is_one_request_away(real: Client, sample: dict[str, Any]) -> None:
    job = real.ask("POST", "/v1/predictions/sample").json
    done = real.done(job["id"])
    assert done["sha256"] == sample["sha256"]
    assert done["result"]["fake_probability"] == sample["result"]["fake_probability"]


def test_media_comes_in_ranges(real: Client, sample: dict[str, Any], sample_path: Path) -> None:
    content, url = sample_path.read_bytes(), sample["media"]["url"]
    size = len(content)
    whole = real.get(url)
    assert (whole.status, whole.body) == (200, content)
    assert whole.headers["Content-Type"] == "video/mp4"
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert whole.headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in whole.headers["Content-Security-Policy"]
    for asked, part in (
        ("bytes=0-99", content[:100]),
        ("bytes=100-", content[100:]),
        ("bytes=-50", content[-50:]),
        (f"bytes=10-{size * 9}", content[10:]),
    ):
        reply = real.get(url, Range=asked)
        assert (reply.status, reply.body) == (206, part), asked
        assert reply.headers["Content-Range"].endswith(f"/{size}")
    for asked in (f"bytes={size}-", "bytes=-0", f"bytes={size}-{size + 5}"):
        reply = real.get(url, Range=asked)
        assert (reply.status, reply.reason) == (416, "no_such_range")
        assert reply.headers["Content-Range"] == f"bytes */{size}"
    many = "bytes=" + ",".join("0-" for _ in range(1000))
    for asked in ("bytes=9-5", "bytes=-", "bytes=a-b", "lines=1-2", "", many, "bytes=" + "9" * 99):
        assert real.get(url, Range=asked).status == 200, asked


def test_what_browsers_cannot_play_gets_a_preview(
    real: Client, sample: dict[str, Any], sample_path: Path, tmp_path: Path
) -> None:
    film = remux(sample_path, tmp_path / "film.mkv")
    job = real.done(real.sent(film.read_bytes(), "film.mkv"))
    assert job["result"]["fake_probability"] == pytest.approx(
        sample["result"]["fake_probability"], abs=0.02
    )
    assert job["media"]["preview"]
    reply = real.get(job["media"]["url"])  # waits until it is made
    assert (reply.status, reply.headers["Content-Type"]) == (200, "video/mp4")
    assert b"ftyp" in reply.body[:12]
    assert real.get(job["media"]["url"], Range="bytes=0-9").status == 206
    assert real.get(f"/v1/predictions/{job['id']}").json["media"]["ready"]
    assert hashlib.sha256(film.read_bytes()).hexdigest() == job["sha256"]


def test_a_clip_that_is_deleted_while_it_is_asked_for(tmp_path: Path, sample_path: Path) -> None:
    with command(tmp_path) as (_, client):
        job = client.done(client.sent(sample_path.read_bytes()))
        for folder in clips(tmp_path):
            shutil.rmtree(folder)  # as the server does, once it has forgotten the clip
        reply = client.get(job["media"]["url"])
        assert (reply.status, reply.reason) == (404, "not_found")


def test_a_clip_that_is_deleted_while_its_preview_is_made(real: Client, tmp_path: Path) -> None:
    frames = (np.full((48, 64, 3), 25 * number, np.uint8) for number in range(10))
    film = write_clip(tmp_path / "film.mkv", frames)
    job = real.done(real.sent(film.read_bytes()))
    assert not job["media"]["ready"]  # its process has yet to start
    assert real.ask("DELETE", f"/v1/predictions/{job['id']}").status == 204
    assert real.get(job["media"]["url"]).reason == "not_found"


def test_faces_are_shown_with_what_spoke_for_a_fake(real: Client, sample: dict[str, Any]) -> None:
    url = f"/v1/predictions/{sample['id']}/heatmap"
    reply = real.get(f"{url}?track=0&time=2.43")
    assert reply.headers["Content-Type"] == "image/png"
    picture = cv2.imdecode(np.frombuffer(reply.body, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert abs(float(reply.headers["X-Time"]) - 2.43) < 0.3
    windows = sample["result"]["branches"]["visual"]["windows"]
    scores = [w["fake_probability"] for w in windows]
    low, high = min(scores) - 0.3, max(scores) + 0.3
    assert low < float(reply.headers["X-Fake-Probability"]) < high
    assert real.get(f"{url}?track=7&time=1").reason == "no_such_face"


def test_the_sound_is_shown_on_the_clips_axis(real: Client, sample: dict[str, Any]) -> None:
    url = f"/v1/predictions/{sample['id']}"
    picture = cv2.imdecode(
        np.frombuffer(real.get(f"{url}/spectrogram").body, np.uint8), cv2.IMREAD_COLOR
    )
    assert picture is not None
    assert len(np.unique(picture)) > 50
    wave = Wave.model_validate_json(real.get(f"{url}/waveform?columns=60").body)
    assert (wave.start, wave.end) == (0.0, sample["result"]["media"]["duration"])
    assert len(wave.low) == len(wave.high) == 60
    assert all(-1 <= low <= high <= 1 for low, high in zip(wave.low, wave.high, strict=True))
    assert max(wave.high) > 0.1


def test_the_report_is_one_page_that_says_the_same(real: Client, sample: dict[str, Any]) -> None:
    reply = real.get(f"/v1/predictions/{sample['id']}/report")
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert reply.headers["Content-Disposition"].startswith("attachment")
    text = reply.body.decode()
    assert sample["sha256"] in text
    assert sample["result"]["verdict"] in text.lower()
    assert "avfake-upload" not in text
    assert "sample.mp4" in text
    assert "<script" not in text


def test_names_and_facts_of_strangers_are_text(real: Client) -> None:
    name = "<img src=x onerror=alert(1)>.mp4"
    job = real.done(real.sent(b"no film at all", name))
    assert job["name"] == name
    assert job["result"]["reason"] == "not_media"
    assert job["result"]["message"].startswith(name)
    report = real.get(f"/v1/predictions/{job['id']}/report")
    assert "<img src=x" not in report.body.decode()
    assert "not_media" in report.body.decode() or "damaged" in report.body.decode()


def test_stopping_leaves_no_process_and_no_file(tmp_path: Path, sample_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with command(tmp_path) as (process, client):
            client.done(client.sent(sample_path.read_bytes()))
            waiting = client.connect()  # an upload that is under way
            head = (
                "POST /v1/predictions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n"
                f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
            )
            waiting.sendall(head.encode() + form(b"")[:150])
            until = time.monotonic() + 10
            while len(clips(tmp_path)) < 2 and time.monotonic() < until:
                time.sleep(0.05)
            assert len(clips(tmp_path)) == 2
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(number)
            assert process.wait(20) == 0
            waiting.close()
            assert all(gone(child.pid) for child in children)
            assert not list(tmp_path.iterdir())


def test_what_a_killed_server_leaves_the_next_one_removes(
    tmp_path: Path, sample_path: Path
) -> None:
    with command(tmp_path) as (dead, client), command(tmp_path) as (_, alive):
        kept = alive.sent(sample_path.read_bytes())
        client.done(client.sent(sample_path.read_bytes()))
        children = psutil.Process(dead.pid).children(recursive=True)
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        assert all(gone(child.pid) for child in children)
        assert len(clips(tmp_path)) == 2
        with command(tmp_path) as (process, _):
            assert len(clips(tmp_path)) == 1  # that of the server that lives
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        done = alive.done(kept)
        assert done["result"]["status"] == "ok"
        assert alive.get(done["media"]["url"]).status == 200


def test_the_files_are_nobody_elses(tmp_path: Path) -> None:
    with command(tmp_path, AVFAKE_TOKEN=TOKEN) as (_, client):
        client.headers = {"Authorization": f"Bearer {TOKEN}"}
        client.done(client.sent(b"text"))
        (root,) = tmp_path.glob("avfake-*")
        assert root.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_mode & 0o077 == 0 for path in clips(tmp_path))
        assert client.ask("GET", "/v1/about", headers={"Authorization": ""}).status == 401


def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "avfake.cli", "serve", *options],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_wrong_usage_is_told_in_a_sentence(tmp_path: Path) -> None:
    done = run("--host", "0.0.0.0", AVFAKE_TOKEN="")
    assert done.returncode == 2
    assert "needs a token" in done.stderr
    assert run("--token", "short").returncode == 2
    assert run("--port", "99999").returncode == 2
    done = run("--port", "0", "--bundle", str(tmp_path))
    assert done.returncode == 1
    assert "bundle.json" in done.stderr
    done = run("--host", "203.0.113.7", "--token", TOKEN)
    assert done.returncode == 1
    assert "203.0.113.7" in done.stderr


def test_a_port_that_is_taken_is_told(real: Client) -> None:
    done = run("--port", str(real.port))
    assert done.returncode == 1
    assert f"port {real.port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_of_two_servers_at_one_port_one_is_told_before_either_has_loaded_its_models() -> None:
    with closing(listen(Settings(port=0))) as listening:
        with pytest.raises(AvfakeError, match="Nothing can listen") as told:
            listen(Settings(port=listening.getsockname()[1]))
        assert told.value.reason == "address_taken"


def test_a_browser_that_is_waited_for_has_its_page(tmp_path: Path) -> None:
    script, seen = tmp_path / "browser.py", tmp_path / "seen.html"
    script.write_text(
        "import os, sys, urllib.request\n"
        "with urllib.request.urlopen(sys.argv[2], timeout=60) as reply:\n"
        "    content = reply.read()\n"
        "with open(sys.argv[1] + '.part', 'wb') as file:\n"
        "    file.write(content)\n"
        "os.replace(sys.argv[1] + '.part', sys.argv[1])\n"
    )
    browser = f"{sys.executable} {script} {seen} %s"
    with command(tmp_path, "--open", BROWSER=browser) as (_, client):
        until = time.monotonic() + 30
        while not seen.exists() and time.monotonic() < until:
            time.sleep(0.1)
        assert seen.read_bytes() == client.get("/").body


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "python_multipart"])
def test_without_its_packages_the_command_says_what_to_install(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; from avfake.cli import main; "
        "sys.exit(main(['serve']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'avfake[serve]'" in done.stderr


def test_the_client_example_sends_waits_and_prints(
    real: Client, repository: Path, sample_path: Path, tmp_path: Path
) -> None:
    script, server = repository / "examples" / "client.py", f"http://{real.host}:{real.port}"
    odd = b'a "quoted" \\ n\xe4me.mp4'  # no UTF-8
    (tmp_path / os.fsdecode(odd)).write_bytes(sample_path.read_bytes())
    asked = [sys.executable, str(script), str(next(tmp_path.iterdir())), server]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "uncertain, probability 0.6" in done.stdout
    assert "lipsync" in done.stdout
    asked[2] = __file__
    done = subprocess.run(asked, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "test_real.py" in done.stdout


def test_the_client_example_waits_while_the_server_is_busy(
    server: Client,
    folder: Path,
    repository: Path,
    sample_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = spec_from_file_location("client", repository / "examples" / "client.py")
    assert spec is not None
    assert spec.loader is not None
    example = module_from_spec(spec)
    spec.loader.exec_module(example)
    sent = [server.sent(what) for what in (b"slow", b"ok", b"ok")]  # all that it takes
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        for clip in folder.glob("*/avfake-upload*"):
            clip.with_name("go").touch()
        server.done(sent[0])

    monkeypatch.setattr(example, "time", SimpleNamespace(sleep=sleep))
    client = example.Client(f"http://{server.host}:{server.port}")
    last = client.send(sample_path)
    assert waits == [5.0]
    for id_ in (*sent, last["id"]):
        server.done(id_)
