"""Refuse predictions that a full queue has no room for, without the application, which takes much longer to do it."""

import json
import time
from collections.abc import Callable
from email.utils import formatdate

from megavit.serving.errors import ApiError
from megavit.serving.http.app import PREDICT
from megavit.serving.http.middleware import DEFAULT_HEADERS, SECURITY_HEADERS, make_request_id
from megavit.serving.logging import log_event
from megavit.serving.metrics import Metrics

LOG_SECONDS = 1.0
"""Minimum seconds between two log lines about such requests."""
_TARGET = PREDICT.encode()
_HEADERS = "".join(
    f"{name}: {value}\r\n"
    for name, value in (SECURITY_HEADERS | DEFAULT_HEADERS | {"content-type": "application/json"}).items()
)


class Overload:
    """The refusal of `POST /predict` while its model's queue is full.

    The key and the origin of a request are not checked, as its answer says only that the server is busy.

    Args:
        find_error: returns the error for another image if too many are waiting, else None.
        metrics: metrics in which refused requests count as others; the log only says how many there were.
    """

    def __init__(self, find_error: Callable[[], ApiError | None], metrics: Metrics) -> None:
        self._find_error, self._metrics = find_error, metrics
        self._refused, self._logged = 0, -LOG_SECONDS
        self._second, self._date = 0, ""

    def refuse(self, method: bytes, url: bytes) -> bytes | None:
        """Return the whole response to a request that has no room, or None for any other request."""
        if method != b"POST" or url.partition(b"?")[0] != _TARGET or (error := self._find_error()) is None:
            return None
        self._metrics.errors.labels(error.code).inc()
        self._metrics.requests.labels(PREDICT, "POST", str(error.status)).inc()
        self._log(error)
        content = json.dumps(error.to_dict(), separators=(",", ":"))
        headers = error.headers | {
            "date": self._get_date(),
            "x-request-id": make_request_id(),
            "content-length": str(len(content)),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {error.status} {error.code}\r\n{_HEADERS}{lines}\r\n{content}".encode()

    def _get_date(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True)
        return self._date

    def _log(self, error: ApiError) -> None:
        self._refused += 1
        if time.monotonic() - self._logged >= LOG_SECONDS:
            log_event("refused", route=PREDICT, status=error.status, requests=self._refused)
            self._refused, self._logged = 0, time.monotonic()
