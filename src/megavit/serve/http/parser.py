"""A parser of HTTP/1.1 on top of httptools, which loses a request that asks for another protocol."""

from typing import Any, Protocol

from httptools import HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser


class ParserCallbacks(Protocol):
    """Where the parser's callbacks store what they have collected."""

    url: bytes
    headers: list[tuple[bytes, bytes]]


class RequestParser:
    """A parser that ignores a request to upgrade the protocol (RFC 9110, 7.8).

    httptools takes what follows such headers for the other protocol: the request's body, and all requests behind it,
    would be lost. So the headers are parsed a second time without the field Upgrade, then what follows them. Meanwhile
    `should_upgrade` is true: callbacks of the first time must not be taken for a request.
    """

    def __init__(self, callbacks: ParserCallbacks) -> None:
        self._callbacks = callbacks
        self._reset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> None:
        """Parse what has arrived.

        Raises:
            HttpParserError: for what is not HTTP/1.1, and for CONNECT, which is for proxies.
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
        # As in uvicorn: data behind a request that closes the connection is not that request's fault.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
