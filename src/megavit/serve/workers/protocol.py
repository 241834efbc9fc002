"""Messages between the front and a worker, over pipes: a JSON header and raw bytes, each with its length before it.

front -> worker   {"op": "image", "id", "options"} + the image; {"op": "cancel", "id"}
worker -> front   {"op": "ready", "model": {...}}; {"op": "failed", "error"}; and for every image exactly one
                  {"op": "answer", "id", "outcome", "error", "batch", "unlike"} + its answer as a JSON object
"""

import asyncio
import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

_LENGTHS = struct.Struct("!IQ")

Frame = tuple[dict[str, Any], bytes]


def head_of(header: Mapping[str, Any], body: bytes | bytearray = b"") -> bytes:
    """What goes before `body` on the pipe."""
    text = json.dumps(header).encode()
    return _LENGTHS.pack(len(text), len(body)) + text


def read_frame(stream: BinaryIO) -> Frame | None:
    """The next frame; None at the end of the stream, also where that cuts a frame short."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    of_header, of_body = _LENGTHS.unpack(lengths)
    header, body = stream.read(of_header), stream.read(of_body)
    if len(header) < of_header or len(body) < of_body:
        return None
    return json.loads(header), body


async def next_frame(stream: asyncio.StreamReader) -> Frame | None:
    """As `read_frame`, of an asyncio stream."""
    try:
        of_header, of_body = _LENGTHS.unpack(await stream.readexactly(_LENGTHS.size))
        header, body = await stream.readexactly(of_header), await stream.readexactly(of_body)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return json.loads(header), body
