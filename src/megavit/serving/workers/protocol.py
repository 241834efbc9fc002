"""Encode and read messages between the server and a worker, over pipes.

A message is the lengths of a JSON header and of a body, then both:
server -> worker   {"op": "predict", "id", "options"} + the image; {"op": "cancel", "id"}
worker -> server   {"op": "ready", "model": {...}}; {"op": "failed", "error"}; and for every image exactly one
                   {"op": "result", "id", "outcome", "error", "batch_size", "out_of_distribution"} + JSON
"""

import asyncio
import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

_LENGTHS = struct.Struct("!IQ")

Message = tuple[dict[str, Any], bytes]


def encode_header(header: Mapping[str, Any], body: bytes | bytearray = b"") -> bytes:
    """Return the bytes of a message that precede its body."""
    text = json.dumps(header).encode()
    return _LENGTHS.pack(len(text), len(body)) + text


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
