"""Refuse predictions that a full queue has no room for, without the application, which takes much longer to do it."""

import asyncio
import json
import re
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
# Strict (RFC 9112, sections 3 and 5), so that the parser, which sees none of these requests, would agree on where they
# end. Neighboring repetitions share no bytes, so that it takes linear time.
_HEAD = re.compile(
    rb"POST %s(?:\?[!-~]{0,256})? HTTP/1\.1\r\n" % re.escape(_TARGET)
    + rb"(?:[!#-'*+.^_`|~0-9A-Za-z-]+:[\t -~]*\r\n){1,64}\r\n"
)
_LENGTH = re.compile(rb"\r\ncontent-length:[\t ]*([0-9]{1,5})[\t ]*\r\n")
_OTHER_FRAMING = re.compile(rb"\r\n(?:transfer-encoding|expect|upgrade):|close")


def is_whole_prediction(data: bytes) -> bool:
    """Return whether received bytes are one `POST /predict` with all of its body, on a connection that is kept."""
    found = _HEAD.match(data)
    if found is None:
        return False
    head = found[0].lower()
    lengths = _LENGTH.findall(head)
    if len(lengths) != 1 or head.count(b"content-length") != 1 or _OTHER_FRAMING.search(head):
        return False
    return found.end() + int(lengths[0]) == len(data)


class Overload:
    """The refusal of `POST /predict` while its model's queue is full.

    The key and the origin of a request are not checked, as its answer says only that the server is busy.

    Args:
        find_error: returns the error for this many more images if too many are waiting, else None.
        metrics: metrics in which refused requests count as others; the log only says how many there were.
    """

    def __init__(self, find_error: Callable[[int], ApiError | None], metrics: Metrics) -> None:
        self._find_error, self._metrics = find_error, metrics
        self._arriving = 0
        self._refused, self._logged = 0, -LOG_SECONDS
        self._key: tuple[str, int | None, int] | None = None
        self._start = self._end = ""

    def refuse(self, method: bytes, url: bytes) -> bytes | None:
        """Return the whole response to a request that has no room, or None for any other request."""
        if method != b"POST" or url.partition(b"?")[0] != _TARGET:
            return None
        error = self._find_error(1 + self._arriving)
        if error is not None:
            return self._respond(error)
        if not self._arriving:
            asyncio.get_running_loop().call_soon(self._reset)
        self._arriving += 1
        return None

    def refuse_whole(self, data: bytes) -> bytes | None:
        """Return the response to bytes that are a whole request that has no room, or None for any others.

        Not parsing a request leaves the processor to the model.
        """
        error = self._find_error(1 + self._arriving)
        return None if error is None or not is_whole_prediction(data) else self._respond(error)

    def _respond(self, error: ApiError) -> bytes:
        self._metrics.errors.labels(error.code).inc()
        self._metrics.requests.labels(PREDICT, "POST", str(error.status)).inc()
        self._log(error)
        key = error.message, error.retry_after, int(time.time())
        if key != self._key:
            content = json.dumps(error.to_dict(), separators=(",", ":"))
            headers = error.headers | {"date": formatdate(key[2], usegmt=True), "content-length": str(len(content))}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            self._start = f"HTTP/1.1 {error.status} {error.code}\r\n{_HEADERS}{lines}x-request-id: "
            self._end, self._key = f"\r\n\r\n{content}", key
        return f"{self._start}{make_request_id()}{self._end}".encode()

    def _reset(self) -> None:
        """Forget the requests that have just arrived: their tasks, which run next, are about to submit them."""
        self._arriving = 0

    def _log(self, error: ApiError) -> None:
        self._refused += 1
        if time.monotonic() - self._logged >= LOG_SECONDS:
            log_event("refused", route=PREDICT, status=error.status, requests=self._refused)
            self._refused, self._logged = 0, time.monotonic()
