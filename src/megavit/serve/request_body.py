"""The images in a request's body, while it arrives."""

import asyncio
import logging
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from megavit.serve.errors import ApiError
from megavit.serve.settings import Settings


class Room:
    """Bytes of bodies that are being read, and of images that are not yet answered, with a limit to all of them.

    What is taken is what has arrived, not what was announced: a slow client keeps no room from the others.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0

    def check(self, announced: int) -> None:
        """Raise an ApiError where a body of so many bytes would find no room."""
        if self.taken + announced > self._most:
            raise ApiError(429, "the server holds as many bytes as it may; try again in a moment", retry_after=1)

    def take(self, arrived: int) -> None:
        self.check(arrived)
        self.taken += arrived

    def give(self, done_with: int) -> None:
        self.taken -= done_with


_LONGEST_NAME = 255
# Taking one apart takes time by the square of its length.
_LONGEST_TYPE = 1024

# Python prints what is logged where nobody has said what to do with it; what it says is in the answer.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())


@dataclass
class Part:
    """One image: its file's name, where it has one, and its bytes."""

    name: str | None
    data: bytearray


@dataclass
class Body:
    """What was read; `multipart` tells several images from one."""

    parts: list[Part] = field(default_factory=list)
    multipart: bool = False


async def read_images(request: Request, settings: Settings, room: Room) -> Body:
    """The body; the room then holds the bytes of its parts.

    Raises:
        Refusal: 400 malformed, 408 too slow, 413 too large, 429 no room.
        ClientDisconnect: when the client has gone.
    """
    check_announced(request, settings, room)
    began = request.scope.get("state", {}).get("began", asyncio.get_running_loop().time())
    parser = _parser_of(request, settings)
    taken = 0
    try:
        try:
            async with asyncio.timeout_at(began + settings.read_timeout):
                async for chunk in request.stream():
                    room.take(len(chunk))
                    taken += len(chunk)
                    if taken > settings.max_body:
                        raise _too_large(settings)
                    parser.write(chunk)
        except TimeoutError:
            seconds = f"{settings.read_timeout:g} seconds"
            raise ApiError(408, f"the request did not arrive within {seconds}; send it faster, or less of it") from None
        body = parser.end()
    except BaseException:
        room.give(taken)
        raise
    room.give(taken - sum(len(part.data) for part in body.parts))
    return body


def check_announced(request: Request, settings: Settings, room: Room) -> None:
    """Raise an ApiError for what the headers say alone."""
    announced = int(request.headers.get("content-length", 0))
    if announced > settings.max_body:
        raise _too_large(settings)
    room.check(announced)


def _too_large(settings: Settings) -> ApiError:
    limit = f"{settings.max_body / 2**20:g} MiB"
    return ApiError(413, f"a request above the limit of {limit}; send smaller images, or fewer at once")


def _parser_of(request: Request, settings: Settings) -> "_Raw | _Multipart":
    told = request.headers.get("content-type", "")
    if len(told) > _LONGEST_TYPE:
        raise ApiError(400, f"a content type of more than {_LONGEST_TYPE} characters")
    kind, options = parse_options_header(told)
    if kind != b"multipart/form-data":
        if kind.startswith(b"multipart/"):
            raise ApiError(400, "several images are sent as multipart/form-data, no other kind of multipart")
        return _Raw()
    if not options.get(b"boundary"):
        raise ApiError(400, "the content type multipart/form-data says no boundary")
    try:
        return _Multipart(options[b"boundary"], settings.most_images)
    except FormParserError:
        raise ApiError(400, "the boundary of the multipart/form-data is too long") from None


class _Raw:
    """One image."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, chunk: bytes) -> None:
        self._data += chunk

    def end(self) -> Body:
        return Body([Part(None, self._data)])


class _Multipart:
    """Any number of images, as a browser's form or `curl -F` sends them."""

    def __init__(self, boundary: bytes, most: int) -> None:
        self._most = most
        self._parts: list[Part] = []
        self._field, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": lambda data, start, end: self._parts[-1].data.extend(data[start:end]),
                "on_end": self._end,
            },
        )

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise ApiError(400, "the body is not the multipart/form-data that its content type says") from None

    def end(self) -> Body:
        if not self._complete:
            raise ApiError(400, "the multipart/form-data is cut short: its last boundary is missing")
        if not self._parts:
            raise ApiError(400, "there is no image in the request; send at least one part with a file")
        return Body(self._parts, multipart=True)

    def _begin(self) -> None:
        if len(self._parts) == self._most:
            raise ApiError(413, f"more than {self._most} images in one request; send them in several")
        self._headers = {}

    def _end_header(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field, self._value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise ApiError(400, "a part of the multipart/form-data says no name in its Content-Disposition")
        if b"filename" not in options and b"content-type" not in self._headers:
            raise ApiError(400, "a part of the multipart/form-data is no file; options go into the query")
        name = options.get(b"filename", b"").decode(errors="replace")[:_LONGEST_NAME]
        self._parts.append(Part(name or None, bytearray()))

    def _end(self) -> None:
        self._complete = True
