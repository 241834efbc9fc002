"""One JSON object a line on standard error: never an image, a file's name, a key or a query."""

import json
import os
import queue
import threading
from datetime import UTC, datetime
from typing import Any

_WAITING = 10_000
_FLUSH_SECONDS = 2.0


class Log:
    """Writes in a thread of its own, so that a reader who has stopped reading stops nobody else; what there is no room
    for is counted, and told with the next line.

    Args:
        file: descriptor to write to.
    """

    def __init__(self, file: int = 2) -> None:
        # Not Python's own stream, which would wait at its end for a write that nobody reads.
        self._file = file
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue(_WAITING)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    def __call__(self, event: str, **fields: Any) -> None:
        """A line; fields that are None are left out."""
        line: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
        line |= {name: value for name, value in fields.items() if value is not None}
        if self._dropped:
            line["dropped"] = self._dropped
        try:
            self._lines.put_nowait(line)
            self._dropped = 0
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what is there, unless nobody reads it."""
        try:
            self._lines.put(None, timeout=_FLUSH_SECONDS)
        except queue.Full:
            return
        self._thread.join(_FLUSH_SECONDS)

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            text = json.dumps(line).encode() + b"\n"
            try:
                while text:
                    text = text[os.write(self._file, text) :]
            except OSError:  # gone or full: the server goes on
                continue
