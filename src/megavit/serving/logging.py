"""Log one JSON object per line, without image contents, file names, keys or queries."""

import json
import logging
import os
import queue
import threading
import time
import traceback
from datetime import UTC, datetime
from typing import Any

QUEUE_SIZE = 10_000
FLUSH_SECONDS = 2.0
GATHER_SECONDS = 0.02
"""Seconds for which lines are gathered after one was written, as waking the thread for each slows a busy server."""
_logger = logging.getLogger("megavit.serving")


def log_event(event: str, **fields: Any) -> None:
    """Log an event; fields that are None are left out."""
    _logger.info(event, extra={"fields": {name: value for name, value in fields.items() if value is not None}})


class JsonLinesHandler(logging.Handler):
    """A logging handler that writes JSON lines in its own thread, so that a stalled reader never blocks the server.

    Lines that do not fit into the queue are dropped; the next line says how many. Unlike `QueueListener`, `close` does
    not wait for a stalled reader. `file` is a descriptor, as Python's streams would wait for the reader at exit.
    """

    def __init__(self, file: int = 2) -> None:
        super().__init__()
        self._file, self._dropped = file, 0
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue(QUEUE_SIZE)
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        line: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        if record.name == _logger.name:
            line |= {"event": record.msg} | record.__dict__["fields"]
        else:
            line |= {"event": "warning", "logger": record.name, "message": record.getMessage()}
            if record.exc_info:
                line["error"] = "".join(traceback.format_exception(*record.exc_info))
        if self._dropped:
            line["dropped"] = self._dropped
        try:
            self._lines.put_nowait(line)
            self._dropped = 0
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write the queued lines, unless the reader has stalled."""
        super().close()
        try:
            self._lines.put(None, timeout=FLUSH_SECONDS)
        except queue.Full:
            return
        self._thread.join(FLUSH_SECONDS)

    def _write_all(self) -> None:
        is_open, written = True, -GATHER_SECONDS
        while is_open:
            lines = [self._lines.get()]
            if lines[0] is not None and time.monotonic() - written < GATHER_SECONDS:
                time.sleep(GATHER_SECONDS)
            lines += [self._lines.get_nowait() for _ in range(self._lines.qsize())]
            is_open, written = None not in lines, time.monotonic()
            text = b"".join(json.dumps(line).encode() + b"\n" for line in lines if line is not None)
            try:
                while text:
                    text = text[os.write(self._file, text) :]
            except OSError:  # closed or full: the server keeps running
                continue


def start_logging() -> JsonLinesHandler:
    """Log the events of the server, and the warnings of uvicorn and asyncio, to standard error."""
    handler = JsonLinesHandler()
    for name, level in ((_logger.name, logging.INFO), ("uvicorn.error", logging.WARNING), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(level)
    return handler
