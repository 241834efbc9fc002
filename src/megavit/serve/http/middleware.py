"""What every request passes on its way in, and every answer on its way out."""

import hmac
import ipaddress
import secrets
import time
import traceback
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from megavit.serve.errors import ApiError
from megavit.serve.logging import Log
from megavit.serve.metrics import Metrics
from megavit.serve.settings import Settings

OPEN = ("/", "/page", "/health")
"""What needs no key, and what lies below."""
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
_OF_ANSWERS = {"cache-control": "no-store", "content-security-policy": "default-src 'none'; frame-ancestors 'none'"}


def refused(refusal: ApiError) -> Response:
    return JSONResponse(refusal.to_dict(), refusal.status, refusal.headers)


def is_loopback(host: str) -> bool:
    """Whether a name or address, without a port, is this machine's own; so that no other site's name will do."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Around the application: host, key and drain before it; headers, counts and the log after it.

    Attributes:
        draining: whether new requests are refused, as the server is about to end.
        active: requests that are being answered.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, log: Log) -> None:
        self._app, self._metrics, self._log = app, metrics, log
        self._key = None if settings.api_key is None else f"Bearer {settings.api_key}".encode()
        self._only_loopback = is_loopback(settings.host)
        self.draining = False
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.active += 1
        try:
            await _Exchange(self, scope, receive, send).run()
        finally:
            self.active -= 1

    def check(self, scope: Scope, headers: Headers) -> None:
        """Raise an ApiError for a request that the application must not see."""
        if self._only_loopback and not is_loopback(_without_port(headers.get("host", ""))):
            raise ApiError(421, "this server answers to localhost alone; megavit serve --host sets another address")
        path = scope["path"]
        if headers.get("sec-fetch-site") == "cross-site" and scope["method"] != "GET":
            raise ApiError(403, "a page of another site has sent this; answers are for pages of this server alone")
        is_open = path == "/" or any(path == start or path.startswith(start + "/") for start in OPEN[1:])
        if self._key is not None and not is_open:
            given = headers.get("authorization", "").encode("latin-1", errors="replace")
            if not hmac.compare_digest(given, self._key):
                raise ApiError(401, "this server wants its key: send the header Authorization: Bearer KEY")
        if self.draining and not path.startswith("/health"):
            raise ApiError(503, "the server is about to end; try again in a moment", retry_after=2)


class _Exchange:
    """One request and its answer."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard, self._scope, self._receive, self._send = guard, scope, receive, send
        self._id = secrets.token_hex(8)
        self._headers = Headers(scope=scope)
        length = self._headers.get("content-length", "0")
        self._unread = "transfer-encoding" in self._headers or length != "0"
        self._bytes_in = 0
        self._status: int | None = None
        scope.setdefault("state", {}).update(told={}, draining=guard.draining)

    async def run(self) -> None:
        began = time.perf_counter()
        self._gone = False
        try:
            try:
                self._guard.check(self._scope, self._headers)
            except ApiError as refusal:
                self._guard._metrics.refusals.labels(refusal.kind).inc()
                await refused(refusal)(self._scope, self.receive, self.send)
            else:
                await self._guard._app(self._scope, self.receive, self.send)
        except ClientDisconnect:
            self._gone = True
        except Exception:  # noqa: BLE001 - a fault of ours: the server goes on, and the log tells of it
            self._guard._log("error", request=self._id, error=traceback.format_exc())
            if self._status is None:
                await refused(ApiError(500, "an error of the server's own; its log has it"))(
                    self._scope, self.receive, self.send
                )
        self._told(time.perf_counter() - began)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes_in += len(message.get("body", b""))
            self._unread = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            headers["x-request-id"] = self._id
            for name, value in _ALWAYS.items():
                headers[name] = value
            for name, value in _OF_ANSWERS.items():
                headers.setdefault(name, value)
            if self._unread or self._guard.draining:
                headers["connection"] = "close"
            message["headers"] = headers.raw
        await self._send(message)

    def _told(self, seconds: float) -> None:
        route = getattr(self._scope.get("route"), "path", "unknown")
        method = self._scope["method"] if route != "unknown" else "any"
        # Starlette answers also those who have gone.
        status = None if self._gone else self._status
        self._guard._metrics.requests.labels(route, method, "gone" if status is None else str(status)).inc()
        self._guard._metrics.seconds.labels(route).observe(seconds)
        told: dict[str, Any] = self._scope["state"]["told"]
        self._guard._log(
            "request",
            request=self._id,
            method=self._scope["method"] if route != "unknown" else None,
            route=route,
            status=status,
            gone=self._gone or None,
            ms=round(seconds * 1000, 3),
            bytes=self._bytes_in,
            **told,
        )


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
