"""What every request passes before anything of it is read, and every answer on its way out.

Pages of other sites can make a browser send requests here, and names that they own can be made to
lead here (DNS rebinding). So the host must be one of ours, whoever asks from another origin gets
nothing of the API, and where there is a token it must come along.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import socket
import time
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from avfake.serve.faults import ApiError
from avfake.serve.settings import Settings, is_loopback

COOKIE = "avfake_view"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""For all that is no page: whatever a clip or a name holds, nothing of it runs."""
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
LINGER = 10.0
"""Seconds for which a refused upload is read on, and thrown away: who still sends when a connection
is closed may never see the answer."""

log = logging.getLogger("avfake.serve")


class Guards:
    """ASGI middleware. `viewing`: what the cookie holds that lets its bearer read, where there is a
    token."""

    def __init__(self, app: ASGIApp, settings: Settings, viewing: str) -> None:
        self._app = app
        self._token = settings.token
        self._viewing = viewing
        self._hosts = {name.lower() for name in (settings.host, *settings.names)}
        self._hosts |= {"localhost", "127.0.0.1", "::1"}
        # Numbers are no names that anybody could make lead elsewhere.
        self._any_number = not is_loopback(settings.host)
        if self._any_number:
            self._hosts.add(socket.gethostname().lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        try:
            self._check(scope)
            await self._app(scope, exchange.receive, exchange.send)
        except ApiError as refusal:
            await refusal.response()(scope, exchange.receive, exchange.send)
        except Exception as error:
            log.error("%s: %s", exchange.what(), type(error).__name__)
            log.debug("", exc_info=error)
            if not exchange.status:
                fault = ApiError(500, "internal_error", "Something went wrong in the server.")
                await fault.response()(scope, exchange.receive, exchange.send)
        if exchange.status >= 400:
            log.info("%s: %d", exchange.what(), exchange.status)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) > 1 or not self._knows(host):
            raise ApiError(
                403, "foreign_host", "This server goes by other names; --allow-host adds one."
            )
        path: str = scope["path"]
        api = path.startswith("/v1/")
        if api or scope["method"] not in ("GET", "HEAD"):
            self._check_origin(headers, host)
        if api and self._token is not None:
            self._check_token(headers, scope["method"])

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._hosts:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._any_number

    def _check_origin(self, headers: Headers, host: str) -> None:
        site = headers.get("sec-fetch-site", "none")
        origin = headers.get("origin")
        own = origin is None or _netloc(origin) == host.lower()
        if site not in ("same-origin", "none") or not own:
            raise ApiError(403, "foreign_origin", "Other sites may not ask this server.")

    def _check_token(self, headers: Headers, method: str) -> None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(token.strip(), self._token or ""):
            return
        # Pictures and videos are asked for by elements that can send no header.
        if method in ("GET", "HEAD") and _same(_cookie(headers), self._viewing):
            return
        raise ApiError(
            401, "no_token", "This server wants its token.", {"WWW-Authenticate": "Bearer"}
        )


class _Exchange:
    """One request and its answer: headers are added, and refused uploads are read to the end."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._scope = scope
        self._receive = receive
        self._send = send
        self._unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self._sends = "expect" not in headers  # else it waits to be told to, and has its answer
        self.status = 0

    def what(self) -> str:
        """The request, for the log: the route, and nothing that the client chose."""
        route = getattr(self._scope.get("route"), "path", "an unknown path")
        return f"{self._scope['method']} {route}"

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("content-security-policy", DATA_POLICY)
            headers.setdefault("cache-control", "no-store")
            if self._unread:
                headers["connection"] = "close"
        elif self._unread and self._sends and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _drain(self) -> None:
        until = time.monotonic() + LINGER
        try:
            while self._unread:
                async with asyncio.timeout(until - time.monotonic()):
                    await self.receive()
        except TimeoutError:
            return


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # an address such as "http://["
        return None


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _same(given: str, wanted: str) -> bool:
    """Compare secrets in a time that tells nothing of where they differ."""
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode())
