"""What the API answers to those who use it as it is meant."""

from __future__ import annotations

import hashlib
import time
from functools import partial
from pathlib import Path

import pytest

from avfake import __version__
from avfake.process import FAULTS
from avfake.serve.schemas import About, Job, Refusal
from avfake.types import AvfakeError
from tests.serve.fakes import broken_later, damaged, dying
from tests.serve.servers import Client, served


def go_on(folder: Path) -> None:
    """Let all clips go on that are "slow"."""
    for clip in folder.glob("*/avfake-upload*"):
        clip.with_name("go").touch()


def test_a_clip_is_sent_judged_and_asked_for(server: Client) -> None:
    content = b"ok " + bytes(range(256)) * 100
    reply = server.send(content, "holiday.mov")
    assert reply.status == 202
    job = Job.model_validate_json(reply.body, strict=True)
    assert (job.name, job.size) == ("holiday.mov", len(content))
    assert job.sha256 == hashlib.sha256(content).hexdigest()
    done = server.done(job.id)
    result = done["result"]
    assert (result["status"], result["path"]) == ("ok", "holiday.mov")
    assert (done["position"], done["progress"]) == (None, None)
    assert done["sha256"] == job.sha256
    Job.model_validate(done)


def test_files_that_cannot_be_judged_are_answers_too(server: Client) -> None:
    done = server.done(server.sent(b"bad", "a b.mp4"))
    assert done["result"]["reason"] == "not_media"
    assert done["result"]["message"] == "a b.mp4 is damaged."
    assert done["media"] is None
    empty = server.done(server.sent(b""))
    assert empty["size"] == 0
    assert empty["sha256"] == hashlib.sha256().hexdigest()


def test_progress_is_told_while_a_clip_is_judged(server: Client, folder: Path) -> None:
    id_ = server.sent(b"slow")
    job = server.wait(id_, lambda job: job["progress"] is not None)
    assert job["state"] == "working"
    assert job["progress"] == {"stage": "faces", "share": 0.25}
    go_on(folder)
    assert server.done(id_)["progress"] is None


def test_some_are_worked_on_some_wait_and_more_are_refused(server: Client, folder: Path) -> None:
    first = server.sent(b"slow")
    server.wait(first, lambda job: job["state"] == "working")
    second, third = server.sent(b"ok"), server.sent(b"ok")
    places = [server.get(f"/v1/predictions/{id_}").json["position"] for id_ in (second, third)]
    assert places == [1, 2]
    refused = server.send(b"ok")
    assert (refused.status, refused.reason) == (429, "busy")
    assert int(refused.headers["Retry-After"]) > 0
    assert server.ask("POST", "/v1/predictions/sample").status == 429
    assert server.ask("DELETE", f"/v1/predictions/{second}").status == 204
    assert server.get(f"/v1/predictions/{third}").json["position"] == 1
    fourth = server.sent(b"ok")
    go_on(folder)
    for id_ in (first, third, fourth):
        assert server.done(id_)["result"]["status"] == "ok"
    assert server.get(f"/v1/predictions/{second}").status == 404


def test_the_page_answers_while_clips_are_judged(server: Client, folder: Path) -> None:
    id_ = server.sent(b"slow")
    server.wait(id_, lambda job: job["state"] == "working")
    started = time.perf_counter()
    for _ in range(20):
        assert server.get("/healthz").json == {"status": "ok"}
    assert time.perf_counter() - started < 10
    go_on(folder)
    server.done(id_)


def test_a_clip_that_is_deleted_leaves_nothing_and_ends_its_work(
    server: Client, folder: Path
) -> None:
    id_ = server.sent(b"hang")
    server.wait(id_, lambda job: job["state"] == "working")
    after = server.sent(b"ok")
    before = set(folder.iterdir())
    assert server.ask("DELETE", f"/v1/predictions/{id_}").status == 204
    assert len(before - set(folder.iterdir())) == 1
    assert server.done(after, 20)["result"]["status"] == "ok"  # well before "hang" ends
    for method in ("GET", "DELETE"):
        assert server.ask(method, f"/v1/predictions/{id_}").reason == "not_found"
    server.ask("DELETE", f"/v1/predictions/{after}")


@pytest.mark.parametrize(
    ("what", "reason", "times"),
    [
        ("segfault", "worker_crashed", "twice."),
        ("greedy", "out_of_memory", "twice."),
        ("hang", "timeout", "s."),
    ],
)
def test_a_file_that_kills_its_worker_costs_its_own_answer(
    server: Client, what: str, reason: str, times: str
) -> None:
    bad, good = server.sent(what.encode(), "evil.mp4"), server.sent(b"ok")
    result = server.done(bad)["result"]
    assert (result["status"], result["reason"]) == ("error", reason)
    assert reason in FAULTS
    assert result["message"].startswith("evil.mp4 ")
    assert result["message"].endswith(times)
    assert server.done(good)["result"]["status"] == "ok"
    assert server.get("/healthz").status == 200


def test_a_worker_that_dies_by_chance_is_given_the_clip_once_more(server: Client) -> None:
    result = server.done(server.sent(b"once"))["result"]
    assert (result["status"], result["warnings"]) == ("ok", ["retried"])


def test_what_nobody_foresaw_tells_no_paths(server: Client) -> None:
    done = server.done(server.sent(b"raise"))
    assert done["result"]["reason"] == "no_worker"
    assert "avfake-upload" not in str(done)
    assert server.get("/healthz").status == 503
    assert server.done(server.sent(b"ok"))["result"]["status"] == "ok"
    assert server.get("/healthz").status == 200


def test_what_is_asked_for_too_early_or_is_not_there(server: Client, folder: Path) -> None:
    id_ = server.sent(b"slow")
    for what in ("media", "heatmap?time=0", "spectrogram", "waveform", "report"):
        reply = server.get(f"/v1/predictions/{id_}/{what}")
        assert (reply.status, reply.reason) == (409, "not_done"), what
        Refusal.model_validate_json(reply.body, strict=True)
        assert server.get(f"/v1/predictions/nobody/{what}").reason == "not_found"
    go_on(folder)
    server.done(id_)
    assert server.get(f"/v1/predictions/{id_}/media").reason == "no_media"
    for wrong in ("heatmap", "heatmap?time=-1", "heatmap?time=nan", "waveform?columns=0"):
        reply = server.get(f"/v1/predictions/{id_}/{wrong}")
        assert (reply.status, reply.reason) == (422, "bad_request")
    assert server.get("/v1/nothing").reason == "not_found"
    for path, allowed in (
        ("/v1/predictions", "POST"),
        ("/v1/predictions/sample", "POST"),
        ("/v1/predictions/x", "DELETE, GET"),
        ("/openapi.json", "GET, HEAD"),
    ):
        reply = server.ask("PUT", path)
        assert (reply.status, reply.reason) == (405, "not_allowed")
        assert set(reply.headers["Allow"].split(", ")) <= set(allowed.split(", "))


def test_the_server_tells_its_models_and_limits(server: Client) -> None:
    about = About.model_validate_json(server.get("/v1/about").body)
    assert about.version == __version__
    assert (about.bundle.name, about.shipped) == ("some", False)
    assert about.thresholds.likely_fake == 0.7
    assert about.limits.bytes == 1 << 20
    assert (about.workers, about.queue) == (1, 2)


def test_clips_are_forgotten_when_nobody_asks_for_them(tmp_path: Path) -> None:
    with served(tmp_path, keep=1.0) as client:
        id_ = client.sent(b"ok")
        client.done(id_)
        for _ in range(4):  # longer than it is kept, but asked for
            time.sleep(0.4)
            assert client.get(f"/v1/predictions/{id_}").status == 200
        assert len(list(tmp_path.iterdir())) == 1
        time.sleep(2.5)
        assert client.get(f"/v1/predictions/{id_}").status == 404
        assert not list(tmp_path.iterdir())


def test_models_that_cannot_be_loaded_are_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(AvfakeError, match="damaged") as told, served(tmp_path, damaged):
        pass
    assert told.value.reason == "bundle_damaged"
    with pytest.raises(AvfakeError) as told, served(tmp_path, dying):
        pass
    assert told.value.reason == "no_worker"


def test_models_that_are_damaged_later_make_the_server_unwell(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    (tmp_path / "files").mkdir()
    with served(tmp_path / "files", partial(broken_later, str(flag))) as client:
        flag.touch()
        done = client.done(client.sent(b"segfault"))  # the process that is there dies of it
        assert done["result"]["reason"] == "bundle_damaged"
        assert "secret" not in str(done)
        health = client.get("/healthz")
        assert (health.status, health.reason) == (503, "bundle_damaged")
        assert "secret" not in str(health.body)
        flag.unlink()
        assert client.done(client.sent(b"ok"))["result"]["status"] == "ok"
        assert client.get("/healthz").status == 200
