"""Read the images in a request's body as it arrives."""

import asyncio
import logging
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from megavit.serving.errors import ApiError
from megavit.serving.settings import Settings

_MAX_NAME_LENGTH = 255
# Parsing a content type takes quadratic time.
_MAX_CONTENT_TYPE_LENGTH = 1024

# Without a handler Python prints these records; the response reports the errors.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())


class ByteBudget:
    """A limit on the total bytes of all bodies being read and all images being processed.

    Only bytes that have arrived count, not announced ones, so that a slow client takes nothing from the others.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def check(self, size: int) -> None:
        """Raise an ApiError if `size` more bytes would exceed the limit."""
        if self.used + size > self._limit:
            raise ApiError(429, "the server's memory for requests is full; try again in a moment", retry_after=1)

    def acquire(self, size: int) -> None:
        self.check(size)
        self.used += size

    def release(self, size: int) -> None:
        self.used -= size


@dataclass
class UploadedImage:
    """An image file: its name, if it has one, and its bytes."""

    filename: str | None
    data: bytearray


@dataclass
class RequestBody:
    """The images of a request; `multipart` if they were sent as a form."""

    images: list[UploadedImage] = field(default_factory=list)
    multipart: bool = False


async def read_body(request: Request, settings: Settings, budget: ByteBudget) -> RequestBody:
    """Return the images of a request; their bytes stay acquired from the budget.

    Raises:
        ApiError: 400 malformed, 408 too slow, 413 too large, 429 over budget.
        ClientDisconnect: if the client has disconnected.
    """
    check_headers(request, settings, budget)
    started = request.scope.get("state", {}).get("started", asyncio.get_running_loop().time())
    parser = _make_parser(request, settings)
    received = 0
    try:
        try:
            async with asyncio.timeout_at(started + settings.read_timeout):
                async for chunk in request.stream():
                    budget.acquire(len(chunk))
                    received += len(chunk)
                    if received > settings.max_request_bytes:
                        raise _too_large(settings)
                    parser.write(chunk)
        except TimeoutError:
            limit = f"{settings.read_timeout:g} seconds"
            raise ApiError(408, f"the request did not arrive within {limit}: send less data, or faster") from None
        body = parser.finish()
    except BaseException:
        budget.release(received)
        raise
    budget.release(received - sum(len(image.data) for image in body.images))
    return body


def check_headers(request: Request, settings: Settings, budget: ByteBudget) -> None:
    """Raise an ApiError if the announced size of the body exceeds a limit."""
    size = int(request.headers.get("content-length", 0))
    if size > settings.max_request_bytes:
        raise _too_large(settings)
    budget.check(size)


def _too_large(settings: Settings) -> ApiError:
    limit = f"{settings.max_request_bytes / 2**20:g} MiB"
    return ApiError(413, f"the request exceeds the limit of {limit}; send smaller images, or fewer at once")


def _make_parser(request: Request, settings: Settings) -> "_RawParser | _FormParser":
    content_type = request.headers.get("content-type", "")
    if len(content_type) > _MAX_CONTENT_TYPE_LENGTH:
        raise ApiError(400, f"the content type has more than {_MAX_CONTENT_TYPE_LENGTH} characters")
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        if kind.startswith(b"multipart/"):
            raise ApiError(400, "send several images as multipart/form-data: no other multipart type is supported")
        return _RawParser()
    if not options.get(b"boundary"):
        raise ApiError(400, "the content type multipart/form-data has no boundary")
    try:
        return _FormParser(options[b"boundary"], settings.max_images)
    except FormParserError:
        raise ApiError(400, "the boundary of the multipart/form-data is too long") from None


class _RawParser:
    def __init__(self) -> None:
        self._data = bytearray()
        self.write = self._data.extend

    def finish(self) -> RequestBody:
        return RequestBody([UploadedImage(None, self._data)])


class _FormParser:
    """A parser of forms with any number of images, as sent by browsers and `curl -F`.

    Starlette's accepts truncated forms, writes files above 1 MiB to disk, and reports too many files as malformed.
    """

    def __init__(self, boundary: bytes, max_images: int) -> None:
        self._max_images = max_images
        self._images: list[UploadedImage] = []
        self._name, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": lambda data, start, end: self._images[-1].data.extend(data[start:end]),
                "on_end": self._end,
            },
        )

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise ApiError(400, "the content type is multipart/form-data, but the body is malformed") from None

    def finish(self) -> RequestBody:
        if not self._complete:
            raise ApiError(400, "the multipart/form-data is truncated: its final boundary is missing")
        if not self._images:
            raise ApiError(400, "the request contains no image: send at least one part with a file")
        return RequestBody(self._images, multipart=True)

    def _begin_part(self) -> None:
        if len(self._images) == self._max_images:
            raise ApiError(413, f"the request contains more than {self._max_images} images: split it into several")
        self._headers = {}

    def _end_header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise ApiError(400, "a part of the multipart/form-data has no name in its Content-Disposition")
        if b"filename" not in options and b"content-type" not in self._headers:
            raise ApiError(400, "a part of the multipart/form-data is not a file: pass options in the query string")
        filename = options.get(b"filename", b"").decode(errors="replace")[:_MAX_NAME_LENGTH]
        self._images.append(UploadedImage(filename or None, bytearray()))

    def _end(self) -> None:
        self._complete = True
