"""Encode and read messages between the server and a worker, over pipes.

A message is the lengths of a JSON header and of a body, then both:
server -> worker   {"op": "predict", "options", "ids", "lengths"} + the images; {"op": "cancel", "id"}
worker -> server   {"op": "ready", "model": {...}}; {"op": "failed", "error"}; and for every image exactly one of the
                   results in {"op": "results", "results": [...]} + the predictions

Images that arrive together, and results that are ready together, share a message: for a small model, messages cost as
much as the model does.
"""

import asyncio
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Literal, NamedTuple

_LENGTHS = struct.Struct("!IQ")

Message = tuple[dict[str, Any], bytes]
Outcome = Literal["predicted", "invalid_image", "invalid_options", "canceled", "failed"]


class Result(NamedTuple):
    """What became of an image; in a message it is a list of these fields.

    Attributes:
        outcome: "invalid_options" for unsupported options, "failed" if the image crashed the worker.
        error: reason, unless the image was predicted.
        batch_size: number of images in its batch.
        length: bytes of its prediction, a JSON object.
    """

    id: int
    outcome: Outcome
    error: str | None = None
    batch_size: int = 0
    out_of_distribution: bool = False
    length: int = 0


def encode_header(header: Mapping[str, Any], body_length: int = 0) -> bytes:
    """Return the bytes of a message that precede its body."""
    text = json.dumps(header).encode()
    return _LENGTHS.pack(len(text), body_length) + text


def read_message(stream: BinaryIO) -> Message | None:
    """Read a message; return None at the end of the stream, even within a message."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    header_length, body_length = _LENGTHS.unpack(lengths)
    header, body = stream.read(header_length), stream.read(body_length)
    if len(header) < header_length or len(body) < body_length:
        return None
    return json.loads(header), body


async def read_message_async(stream: asyncio.StreamReader) -> Message | None:
    """Read a message from an asyncio stream, like `read_message`."""
    try:
        header_length, body_length = _LENGTHS.unpack(await stream.readexactly(_LENGTHS.size))
        header, body = await stream.readexactly(header_length), await stream.readexactly(body_length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return json.loads(header), body


def split_body(body: bytes, lengths: Iterable[int]) -> Iterator[bytes]:
    """Yield the parts of a body that have these lengths, in order."""
    start = 0
    for length in lengths:
        yield body[start : start + length]
        start += length
