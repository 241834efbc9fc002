"""Requests as bytes, by httptools, which by itself loses a request that also asks for another protocol."""

from typing import Protocol

from httptools import HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser


class Parsed(Protocol):
    """What the parser's callbacks are called on, with what they have gathered."""

    url: bytes
    headers: list[tuple[bytes, bytes]]


class RequestParser:
    """A parser of HTTP/1.1 that reads a request for an upgrade as the request that it is without (RFC 9110, 7.8).

    httptools takes what follows such a head for the other protocol, so that the request's body and all requests behind
    it would be lost. Here the head is parsed a second time without its field Upgrade, and what follows after it.
    Between the two, `should_upgrade` is true: what is called back then is not to be taken for a request.
    """

    def __init__(self, protocol: Parsed) -> None:
        self._protocol = protocol
        self._parser = self._fresh()

    def feed_data(self, data: bytes) -> None:
        """Parse what has arrived.

        Raises:
            HttpParserError: for what is no HTTP/1.1, and for CONNECT, which is a proxy's.
        """
        rest = memoryview(data)
        while True:
            try:
                return self._parser.feed_data(rest)
            except HttpParserUpgrade as upgrade:
                method = self._parser.get_method()
                if method == b"CONNECT":
                    raise HttpParserInvalidMethodError("CONNECT") from None
                rest = rest[upgrade.args[0] :]
                head = [b"%s %s HTTP/%s" % (method, self._protocol.url, self._parser.get_http_version().encode())]
                head += [b"%s: %s" % field for field in self._protocol.headers if field[0] != b"upgrade"]
                self._parser = self._fresh()
                self._parser.feed_data(b"\r\n".join(head) + b"\r\n\r\n")

    def get_http_version(self) -> str:
        return self._parser.get_http_version()

    def get_method(self) -> bytes:
        return self._parser.get_method()

    def should_keep_alive(self) -> bool:
        return self._parser.should_keep_alive()

    def should_upgrade(self) -> bool:
        """Whether this head is about to be parsed a second time."""
        return self._parser.should_upgrade()

    def _fresh(self) -> HttpRequestParser:
        parser = HttpRequestParser(self._protocol)
        # As uvicorn has it: what comes after a request that closes the connection is no fault of that request.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser
