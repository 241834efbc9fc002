"""Parse HTTP/1.1 with httptools, ignoring requests to upgrade the protocol."""

from typing import Any, Protocol

from httptools import HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser


class ParserCallbacks(Protocol):
    """The data that the parser's callbacks have collected."""

    url: bytes
    headers: list[tuple[bytes, bytes]]


class RequestParser:
    """An HTTP parser that ignores a request to upgrade the protocol (RFC 9110, 7.8).

    httptools stops after such headers, and loses the body and all following requests. So the headers are parsed again
    without the field Upgrade; during the first parse `should_upgrade` is true, and callbacks must ignore it.
    """

    def __init__(self, callbacks: ParserCallbacks) -> None:
        self._callbacks = callbacks
        self._reset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> None:
        """Parse received data.

        Raises:
            HttpParserError: for anything but HTTP/1.1, and for CONNECT, which is for proxies.
        """
        rest = memoryview(data)
        while True:
            try:
                return self._parser.feed_data(rest)
            except HttpParserUpgrade as upgrade:
                method, version = self._parser.get_method(), self._parser.get_http_version().encode()
                if method == b"CONNECT":
                    raise HttpParserInvalidMethodError("CONNECT") from None
                rest = rest[upgrade.args[0] :]
                lines = [b"%s %s HTTP/%s" % (method, self._callbacks.url, version)]
                lines += [b"%s: %s" % field for field in self._callbacks.headers if field[0] != b"upgrade"]
                self._reset()
                self._parser.feed_data(b"\r\n".join(lines) + b"\r\n\r\n")

    def _reset(self) -> None:
        self._parser = HttpRequestParser(self._callbacks)
        # As in uvicorn: ignore data after a request that closes the connection.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
