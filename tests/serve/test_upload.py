"""Forms that lie, never end or are none: nothing is written beyond the cap, and nothing stays."""

from __future__ import annotations

import hashlib
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avfake.limits import Limits
from avfake.serve import upload
from avfake.serve.upload import OVERHEAD, shown_name, stored_name
from avfake.workers import Models
from tests.serve.conftest import MOST
from tests.serve.servers import BOUNDARY, Client, form, read_reply, served

HEAD = f"""POST /v1/predictions HTTP/1.1
Host: localhost
Content-Type: multipart/form-data; boundary={BOUNDARY}"""
OPENING = form(b"").split(b"\r\n\r\n")[0] + b"\r\n\r\n"


@pytest.fixture
def spool(folder: Path) -> Iterator[Callable[[], int]]:
    """How many bytes of clips there are that were not there before; none may stay."""
    before = set(folder.iterdir())

    def count() -> int:
        fresh = [path for path in folder.iterdir() if path not in before]
        return sum(file.stat().st_size for one in fresh for file in one.glob("*"))

    yield count
    until = time.monotonic() + 5
    while set(folder.iterdir()) - before and time.monotonic() < until:
        time.sleep(0.02)
    assert not set(folder.iterdir()) - before


@contextmanager
def sending(server: Client, head: str) -> Iterator[socket.socket]:
    with server.connect() as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        yield connection


def chunked(data: bytes, size: int = 8192) -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_a_file_of_just_the_cap_is_taken_and_one_of_a_byte_more_is_not(server: Client) -> None:
    content = b"ok " + b"x" * (MOST - 3)
    id_ = server.sent(content)
    assert server.done(id_)["size"] == MOST
    refused = server.send(content + b"x")
    assert (refused.status, refused.reason) == (413, "file_too_large")
    server.ask("DELETE", f"/v1/predictions/{id_}")


def test_a_large_upload_is_refused_before_it_is_sent(
    server: Client, spool: Callable[[], int]
) -> None:
    with sending(server, f"{HEAD}\nContent-Length: {MOST + OVERHEAD + 1}") as connection:
        assert read_reply(connection).status == 413
        assert spool() == 0


def test_who_sends_more_than_it_said_is_taken_at_its_word(server: Client) -> None:
    body = form(b"ok")
    reply = server.raw(f"{HEAD}\nContent-Length: {len(body) - 8}\nConnection: close", body)
    assert (reply.status, reply.reason) == (400, "bad_form")


def test_who_says_more_than_it_sends_leaves_nothing(
    server: Client, spool: Callable[[], int]
) -> None:
    with sending(server, f"{HEAD}\nContent-Length: 900000") as connection:
        connection.sendall(OPENING + b"x" * 500_000)
        until = time.monotonic() + 5
        while spool() == 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert spool() > 0  # and the fixture waits until it is gone


@pytest.mark.parametrize("length", ["-1", "+5", "0x10", "1e9", "", "5, 7"])
def test_lengths_that_are_none_are_refused(server: Client, length: str) -> None:
    reply = server.raw(f"{HEAD}\nContent-Length: {length}", form(b"ok"))
    assert reply.status == 400


def test_without_a_length_nothing_is_read(server: Client) -> None:
    reply = server.raw(f"{HEAD}\nConnection: close", form(b"ok"))
    assert (reply.status, reply.reason) == (400, "bad_form")


def test_chunks_are_counted_and_hashed_like_any_upload(server: Client) -> None:
    content = b"ok " + random.Random(1).randbytes(300_000)
    head = f"{HEAD}\nTransfer-Encoding: chunked\nConnection: close"
    reply = server.raw(head, chunked(form(content), 777))
    assert reply.status == 202
    assert reply.json["sha256"] == hashlib.sha256(content).hexdigest()
    server.done(reply.json["id"])
    server.ask("DELETE", f"/v1/predictions/{reply.json['id']}")


def test_chunks_without_end_are_cut_off_at_the_cap(
    server: Client, spool: Callable[[], int]
) -> None:
    with sending(server, f"{HEAD}\nTransfer-Encoding: chunked") as connection:
        connection.sendall(b"%x\r\n%s\r\n" % (len(OPENING), OPENING))
        part, most = b"%x\r\n%s\r\n" % (1 << 16, b"x" * (1 << 16)), 0
        connection.settimeout(0.001)
        for _ in range(200):
            connection.settimeout(10)
            connection.sendall(part)
            most = max(most, spool())
        reply = read_reply(connection)
    assert (reply.status, reply.reason) == (413, "file_too_large")
    assert most <= MOST


def test_what_stands_around_the_file_is_capped_too(
    server: Client, spool: Callable[[], int]
) -> None:
    head = f"{HEAD}\nTransfer-Encoding: chunked\nConnection: close"
    after = chunked(form(b"ok") + b"x" * (MOST + OVERHEAD))
    assert server.raw(head, after).reason == "file_too_large"
    before = chunked(b"\r\n" * MOST + form(b"ok"))
    assert server.raw(head, before).reason == "file_too_large"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (form(b"ok", field="other"), "wrong_part"),
        (form(b"ok").replace(b'name="file"; ', b""), "wrong_part"),
        (form(b"ok").replace(b"Content-Disposition", b"Content-Position"), "wrong_part"),
        (form(b"ok", field="x").removesuffix(b"--\r\n") + b"\r\n" + form(b"ok"), "wrong_part"),
        (form(b"ok").removesuffix(b"--\r\n") + b"\r\n" + form(b"ok"), "wrong_part"),
        (
            f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n".encode() * 10_000,
            "wrong_part",
        ),
        (form(b"ok").replace(b"video/mp4", b"x" * 5000), "bad_form"),
        (form(b"ok").replace(b"Content-Type", b"X" * 5000), "bad_form"),
        (form(b"ok").replace(b"\r\nContent-Type", b"\r\nA: b" * 20), "bad_form"),
        (form(b"ok").replace(b"Content-Type", b"Content Type"), "bad_form"),
        (form(b"ok").removesuffix(b"--\r\n"), "bad_form"),
        (form(b"ok")[:-30], "bad_form"),
        (b"no form at all", "bad_form"),
        (b"", "bad_form"),
        (f"--{BOUNDARY}--\r\n".encode(), "wrong_part"),
    ],
    ids=[
        *("another field", "no name", "no disposition", "a field before", "two files"),
        *("10k parts", "a long value", "a long header", "many headers", "no header"),
        *("no end", "half an end", "text", "nothing", "no part"),
    ],
)
def test_forms_that_are_not_one_file_are_refused(
    server: Client, spool: Callable[[], int], body: bytes, reason: str
) -> None:
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    reply = server.ask("POST", "/v1/predictions", body, kind)
    assert reply.status in (400, 422)
    assert reply.reason == reason


def test_a_form_within_a_form_is_a_file_like_any_other(server: Client) -> None:
    inner = b"ok\r\n--inner\r\nContent-Disposition: form-data; name=file\r\n\r\nx\r\n--inner--\r\n"
    id_ = server.sent(inner)
    assert server.done(id_)["size"] == len(inner)
    server.ask("DELETE", f"/v1/predictions/{id_}")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/mixed; boundary=x", 415),
        ("", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ("multipart/form-data; boundary=" + "x" * 300, 400),
        ('multipart/form-data; boundary="' + "\\" * 3000, 400),
    ],
)
def test_bodies_that_are_no_forms_are_refused(server: Client, kind: str, status: int) -> None:
    started = time.perf_counter()
    reply = server.ask("POST", "/v1/predictions", form(b"ok"), {"Content-Type": kind})
    assert reply.status == status
    assert time.perf_counter() - started < 10


def test_uploads_that_stall_or_trickle_are_given_up(
    server: Client, spool: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "SILENCE", 0.5)
    with sending(server, f"{HEAD}\nContent-Length: 9000") as connection:
        connection.sendall(OPENING + b"x" * 100)
        assert read_reply(connection).reason == "too_slow"
    with sending(server, f"{HEAD}\nContent-Length: 9000") as connection:
        connection.sendall(OPENING)
        started = time.monotonic()
        connection.settimeout(0.05)
        while time.monotonic() - started < 10:
            try:
                if connection.recv(1, socket.MSG_PEEK):
                    break
            except TimeoutError:
                connection.sendall(b"x")
        connection.settimeout(20)
        assert read_reply(connection).reason == "too_slow"
        assert time.monotonic() - started < 9


def test_who_sends_all_before_it_listens_gets_its_refusal(server: Client) -> None:
    """The answer is there although the rest of the upload was of no use."""
    body = form(b"x" * (20 * MOST))
    with sending(server, f"{HEAD}\nContent-Length: {len(body)}") as connection:
        connection.sendall(body)
        time.sleep(0.1)
        assert read_reply(connection).reason == "file_too_large"


def test_who_waits_to_be_told_to_go_on_is_told_no_at_once(server: Client) -> None:
    head = f"{HEAD}\nContent-Length: {9 * MOST}\nExpect: 100-continue"
    started = time.monotonic()
    with sending(server, head) as connection:
        assert read_reply(connection).status == 413
    assert time.monotonic() - started < 10


def test_uploads_under_way_hold_a_place_and_give_it_back(tmp_path: Path) -> None:
    with served(tmp_path, workers=1, queue=1) as client:
        head = f"{HEAD}\nContent-Length: 9000"
        with sending(client, head), sending(client, head):
            time.sleep(0.3)
            assert client.send(b"ok").reason == "busy"
        time.sleep(0.3)
        assert client.done(client.sent(b"ok"))["result"]["status"] == "ok"


def test_a_disk_without_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path, models=Models(limits=Limits(bytes=MOST))) as client:
        monkeypatch.setattr("avfake.serve.store.RESERVE", 1 << 60)
        reply = client.send(b"ok")
        assert (reply.status, reply.reason) == (507, "no_room")
        assert not list(tmp_path.iterdir())
        monkeypatch.undo()
        tmp_path.rmdir()  # nor can a folder be made
        for path in ("/v1/predictions", "/v1/predictions/sample"):
            kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
            reply = client.ask("POST", path, form(b"ok"), kind)
            assert (reply.status, reply.reason) == (507, "no_room")


def test_names_are_the_servers_own_on_disk_and_only_shown_otherwise(
    server: Client, folder: Path
) -> None:
    before = set(folder.iterdir())
    for name in ("../../etc/passwd.mp4", "..\\\\x.mp4", "/root/a.mp4", "a\tb.mp4"):
        id_ = server.sent(b"ok", name)
        job = server.done(id_)
        assert "/" not in job["name"]
        assert "\\" not in job["name"]
        fresh = set(folder.iterdir()) - before
        stored = {file.name for one in fresh for file in one.iterdir()}
        assert stored == {"avfake-upload.mp4"}
        server.ask("DELETE", f"/v1/predictions/{id_}")


def test_what_is_shown_of_a_name() -> None:
    assert shown_name("C:\\Users\\me\\clip.mp4") == "clip.mp4"
    assert shown_name("<img src=x>.mp4") == "<img src=x>.mp4"  # as text, never as markup
    assert shown_name("gpj\u202e4pm.exe") == "gpj4pm.exe"
    assert shown_name("a\r\nSet-Cookie: b.mp4") == "aSet-Cookie: b.mp4"
    assert shown_name("  ") == shown_name("") == shown_name("/") == "unnamed"
    assert shown_name("é日本\u200d.mp4") == "é日本\u200d.mp4"
    assert len(shown_name("x" * 999 + ".mp4")) == 200
    assert shown_name("x" * 999 + ".mp4").endswith(".mp4")


def test_only_endings_that_are_known_are_kept() -> None:
    assert stored_name("a.MP4") == "avfake-upload.mp4"
    assert stored_name("a.m3u8") == stored_name("a.sh") == stored_name("a") == "avfake-upload"
