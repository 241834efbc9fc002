"""ASGI middleware around the application: access checks, security headers, metrics and the request log."""

import hmac
import ipaddress
import random
import time
import traceback
from functools import lru_cache
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from megavit.serving.errors import ApiError
from megavit.serving.logging import log_event
from megavit.serving.metrics import Metrics
from megavit.serving.settings import Settings

PUBLIC_PATHS = ("/page", "/health")
"""Paths, with everything below them, that need no key; neither does `/`."""
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
DEFAULT_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


def make_request_id() -> str:
    """Return a random identifier; it is no secret, so that it need not cost a system call."""
    return f"{random.getrandbits(64):016x}"


def error_response(error: ApiError) -> Response:
    return JSONResponse(error.to_dict(), error.status, error.headers)


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Return whether a host, without its port, is localhost or a loopback address; names are not resolved."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class ServerMiddleware:
    """ASGI middleware that checks host, origin and key, adds headers, and counts and logs requests.

    Attributes:
        draining: whether new requests are refused because the server is shutting down.
        active: number of requests in progress.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self._key = None if settings.api_key is None else f"Bearer {settings.api_key}".encode()
        self._only_loopback = is_loopback(settings.host)
        self.draining = False
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.active += 1
        try:
            await _RequestHandler(self, scope, receive, send).run()
        finally:
            self.active -= 1

    def check(self, scope: Scope, headers: Headers) -> None:
        """Raise an ApiError for a request that must not reach the application."""
        host, colon, port = headers.get("host", "").rpartition(":")
        if self._only_loopback and not is_loopback(host if colon and port.isdigit() else headers.get("host", "")):
            raise ApiError(421, "this server only accepts requests to localhost: set another address with --host")
        path = scope["path"]
        if headers.get("sec-fetch-site") == "cross-site" and scope["method"] != "GET":
            raise ApiError(403, "this request comes from a page of another site; only this server's pages may send it")
        is_public = path == "/" or any(path == prefix or path.startswith(f"{prefix}/") for prefix in PUBLIC_PATHS)
        if self._key is not None and not is_public:
            key = headers.get("authorization", "").encode("latin-1", errors="replace")
            if not hmac.compare_digest(key, self._key):
                raise ApiError(401, "this server requires an API key: send the header Authorization: Bearer KEY")
        if self.draining and not path.startswith("/health"):
            raise ApiError(503, "the server is shutting down; try again in a moment", retry_after=2)


class _RequestHandler:
    """The handling of one request; the application gets its `receive` and `send`."""

    def __init__(self, middleware: ServerMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self._middleware, self._scope, self._receive, self._send = middleware, scope, receive, send
        self._id = make_request_id()
        self._headers = Headers(scope=scope)
        self._unread = "transfer-encoding" in self._headers or self._headers.get("content-length", "0") != "0"
        self._bytes = 0
        self._status: int | None = None
        self._disconnected = False
        scope.setdefault("state", {}).update(log_fields={}, draining=middleware.draining)

    async def run(self) -> None:
        started = time.perf_counter()
        try:
            try:
                self._middleware.check(self._scope, self._headers)
            except ApiError as error:
                self._middleware.metrics.errors.labels(error.code).inc()
                await error_response(error)(self._scope, self.receive, self.send)
            else:
                await self._middleware.app(self._scope, self.receive, self.send)
        except ClientDisconnect:
            self._disconnected = True
        except Exception:  # noqa: BLE001 - a bug must not stop the server
            log_event("error", request=self._id, error=traceback.format_exc())
            if self._status is None:
                error = ApiError(500, "internal server error: see the server's log for details")
                await error_response(error)(self._scope, self.receive, self.send)
        self._log(time.perf_counter() - started)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._unread = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            headers.update({"x-request-id": self._id} | SECURITY_HEADERS)
            for name, value in DEFAULT_HEADERS.items():
                headers.setdefault(name, value)
            if (self._unread and not self._has_arrived) or self._middleware.draining:
                headers["connection"] = "close"
            message["headers"] = headers.raw
        await self._send(message)

    @property
    def _has_arrived(self) -> bool:
        """Whether the server has received the whole body, so that its connection can be kept without reading it."""
        cycle = self._scope["state"].get("cycle")
        return cycle is not None and not cycle.more_body

    def _log(self, seconds: float) -> None:
        route = getattr(self._scope.get("route"), "path", None)
        method = self._scope["method"] if route else None
        # Starlette also responds to clients that have disconnected.
        status = None if self._disconnected else self._status
        labels = (route or "unknown", method or "any", "disconnected" if status is None else str(status))
        self._middleware.metrics.requests.labels(*labels).inc()
        self._middleware.metrics.seconds.labels(labels[0]).observe(seconds)
        fields: dict[str, Any] = self._scope["state"]["log_fields"]
        log_event(
            "request",
            request=self._id,
            method=method,
            route=labels[0],
            status=status,
            disconnected=self._disconnected or None,
            ms=round(seconds * 1000, 3),
            bytes=self._bytes,
            **fields,
        )
