"""Other sites, other names and other people get nothing."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avfake.serve import guards
from avfake.serve import server as server_module
from avfake.serve.settings import Settings, is_loopback
from avfake.types import AvfakeError
from tests.serve.servers import BOUNDARY, TOKEN, Client, form, read_reply, served


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with a token."""
    with served(tmp_path_factory.mktemp("guarded"), token=TOKEN) as client:
        yield client


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.7", "", "["],
)
def test_names_that_are_not_ours_are_refused(server: Client, host: str) -> None:
    for path in ("/", "/v1/about", "/healthz", "/docs"):
        reply = server.get(path, Host=host)
        assert (reply.status, reply.reason) == (403, "foreign_host")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8765", "[::1]:8765", "LOCALHOST:1"])
def test_names_of_this_machine_are_answered(server: Client, host: str) -> None:
    assert server.get("/v1/about", Host=host).status == 200


def test_two_hosts_are_one_too_many(server: Client) -> None:
    reply = server.raw("GET /v1/about HTTP/1.1\nHost: localhost\nHost: evil.example")
    assert reply.status in (400, 403)


def test_names_that_were_allowed_are_answered(tmp_path: Path) -> None:
    with served(tmp_path, names=("fakes.example",)) as client:
        assert client.get("/v1/about", Host="fakes.example:443").status == 200
        assert client.get("/v1/about", Host="others.example").status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},  # another server of this machine
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_change_and_read_nothing(server: Client, headers: dict[str, str]) -> None:
    id_ = server.sent(b"ok")
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    for method, path, body in (
        ("POST", "/v1/predictions", form(b"ok")),
        ("POST", "/v1/predictions/sample", None),
        ("DELETE", f"/v1/predictions/{id_}", None),
        ("GET", f"/v1/predictions/{id_}", None),
        ("GET", f"/v1/predictions/{id_}/media", None),
        ("OPTIONS", "/v1/predictions", None),
    ):
        reply = server.ask(method, path, body, kind | headers)
        assert (reply.status, reply.reason) == (403, "foreign_origin")
        assert "access-control-allow-origin" not in reply.headers
    assert server.done(id_)["state"] == "done"


def test_our_own_page_and_programs_are_answered(server: Client) -> None:
    own = f"{server.host}:{server.port}"
    for headers in (
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": f"http://{own}"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://localhost:9", "Host": "localhost:9"},  # through a proxy
    ):
        assert server.ask("GET", "/v1/about", None, headers).status == 200


def test_a_link_from_elsewhere_leads_to_the_page(server: Client) -> None:
    assert server.get("/", **{"Sec-Fetch-Site": "cross-site"}).status == 200


def test_every_answer_has_its_armour(server: Client) -> None:
    page, data = server.get("/"), server.get("/v1/about")
    for reply in (page, data, server.get("/nothing"), server.get("/docs"), server.get("/page/x")):
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        policy = reply.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "server" not in reply.headers
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert "sandbox" in data.headers["Content-Security-Policy"]
    assert data.headers["Cache-Control"] == "no-store"


def test_the_pages_files_are_served_and_no_others(server: Client) -> None:
    script = server.get("/page/app.js")
    assert script.status == 200
    assert script.headers["Content-Type"].startswith(("text/javascript", "application/javascript"))
    assert script.headers["Cache-Control"] == "no-cache"
    for path in ("../app.py", "%2e%2e/app.py", "..%2fapp.py", "%2e%2e%2f%2e%2e%2fcli.py", ""):
        with socket.create_connection((server.host, server.port)) as connection:
            line = f"GET /page/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            connection.sendall(line.encode())
            assert read_reply(connection).status == 404, path


def test_without_the_token_the_api_says_nothing(guarded: Client) -> None:
    for headers in (
        {},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer \xe9"},
        {"Cookie": f"avfake_view={TOKEN}"},
        {"Cookie": "avfake_view="},
        {"Cookie": 'avfake_view="\\'},
    ):
        for method, path in (
            ("GET", "/v1/about"),
            ("GET", "/v1/nothing"),
            ("GET", "/v1/predictions/x"),
            ("POST", "/v1/predictions"),
            ("POST", "/v1/predictions/sample"),
            ("POST", "/v1/session"),
            ("DELETE", "/v1/predictions/x"),
        ):
            reply = guarded.ask(method, path, None, headers)
            assert (reply.status, reply.reason) == (401, "no_token")
            assert reply.headers["WWW-Authenticate"] == "Bearer"
    for path in ("/", "/healthz", "/docs", "/openapi.json"):
        assert guarded.get(path).status == 200


def test_with_the_token_all_is_as_without_one(guarded: Client) -> None:
    known = Client(guarded.host, guarded.port, {"Authorization": f"Bearer {TOKEN}"})
    id_ = known.sent(b"ok")
    assert known.done(id_)["result"]["status"] == "ok"
    assert guarded.get(f"/v1/predictions/{id_}").status == 401


def test_a_sessions_cookie_reads_and_changes_nothing(guarded: Client) -> None:
    known = Client(guarded.host, guarded.port, {"Authorization": f"Bearer {TOKEN}"})
    id_ = known.sent(b"ok")
    reply = known.ask("POST", "/v1/session")
    assert reply.status == 204
    cookie = reply.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    own = {"Cookie": cookie.split(";")[0]}
    assert guarded.ask("GET", f"/v1/predictions/{id_}", None, own).status == 200
    assert guarded.ask("GET", f"/v1/predictions/{id_}/media", None, own).status in (404, 409)
    for method, path in (
        ("DELETE", f"/v1/predictions/{id_}"),
        ("POST", "/v1/predictions/sample"),
        ("POST", "/v1/session"),
    ):
        assert guarded.ask(method, path, None, own).status == 401
    foreign = own | {"Sec-Fetch-Site": "cross-site"}
    assert guarded.ask("GET", f"/v1/predictions/{id_}", None, foreign).status == 403


def test_strangers_uploads_are_not_read(guarded: Client, tmp_path: Path) -> None:
    head = f"""POST /v1/predictions HTTP/1.1
Host: localhost
Content-Type: multipart/form-data; boundary={BOUNDARY}
Content-Length: 1000000"""
    with guarded.connect() as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        assert read_reply(connection).status == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_other_addresses_need_a_token(host: str) -> None:
    with pytest.raises(AvfakeError, match="token") as told:
        Settings(host=host)
    assert told.value.reason == "usage"
    Settings(host=host, token=TOKEN)


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "é" * 20, "x" * 20 + "\n"])
def test_tokens_that_are_weak_or_cannot_be_sent_are_refused(token: str) -> None:
    with pytest.raises(AvfakeError, match="16 characters"):
        Settings(token=token)


@pytest.mark.parametrize("name", ["https://a.example", "a.example:443", "a.example/x", "é.de", ""])
def test_names_that_no_browser_would_ask_for_are_refused(name: str) -> None:
    with pytest.raises(AvfakeError, match="no host name") as told:
        Settings(names=("b.example", name))
    assert told.value.reason == "usage"


def test_which_addresses_are_this_machines() -> None:
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        assert is_loopback(host)
    for host in ("0.0.0.0", "::", "", "10.0.0.1", "localhost.example", "2130706433"):
        assert not is_loopback(host)


def test_a_head_that_never_ends_is_cut_off(server: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEAD_SECONDS", 0.5)
    for sent in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"\r\n"):
        with server.connect() as connection:
            connection.settimeout(0.1)
            connection.sendall(sent)
            started, ended = time.monotonic(), False
            while not ended and time.monotonic() - started < 30:
                try:
                    ended = connection.recv(100) == b""
                except TimeoutError:
                    connection.sendall(b"X: y\r\n" if sent.startswith(b"GET") else b"")
                except ConnectionError:
                    ended = True
            assert ended
    with server.connect() as connection:  # nor on a connection that was used before
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_reply(connection).status == 200
        connection.sendall(b"GET / HTTP/1.1\r\n")
        connection.settimeout(5)
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b""


@pytest.mark.parametrize("expect", ["", "\nExpect: 100-continue"])
def test_who_is_refused_holds_no_connection(
    guarded: Client, expect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "LINGER", 1.0)
    head = f"POST /v1/predictions HTTP/1.1\nHost: localhost\nContent-Length: 9000{expect}"
    with guarded.connect() as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        reply = read_reply(connection)
        assert (reply.status, reply.headers["Connection"]) == (401, "close")
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"x")
            assert connection.recv(1) == b""


def test_heads_without_bound_are_refused(server: Client) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 20_000)
        assert read_reply(connection).status == 400


def test_the_log_names_no_files_ids_or_tokens(
    guarded: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    known = Client(guarded.host, guarded.port, {"Authorization": f"Bearer {TOKEN}"})
    id_ = known.sent(b"bad", "my secret.mp4")
    known.done(id_)
    known.get(f"/v1/predictions/{id_}/media?token={TOKEN}")
    known.get("/v1/my%20secret")
    guarded.get(f"/v1/predictions/{id_}")
    records = [record for record in caplog.records if record.name != "uvicorn.access"]
    said = "\n".join(record.getMessage() for record in records)  # pytest turns that one on
    assert re.search("judged .* not_media", said)
    assert "GET /v1/predictions/{id}/media: 404" in said
    for secret in ("secret", id_, TOKEN):
        assert secret not in said


def test_what_goes_wrong_inside_is_told_without_its_trace(
    server: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("/secret/place")

    monkeypatch.setattr("avfake.serve.app.document", broken)
    reply = server.get("/docs")
    assert (reply.status, reply.reason) == (500, "internal_error")
    assert b"secret" not in reply.body
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "GET /docs: RuntimeError" in caplog.text


def test_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS", 5)
    with served(tmp_path) as client:
        held = [client.connect() for _ in range(6)]
        time.sleep(0.2)
        assert client.get("/healthz").status == 503
        for connection in held:
            connection.close()
        time.sleep(0.2)
        assert client.get("/healthz").status == 200
