"""One JSON object a line on standard error: never an image, a file's name, a key or a query."""

import json
import queue
import sys
import threading
from datetime import UTC, datetime
from typing import Any, TextIO

_WAITING = 10_000
_FLUSH_SECONDS = 2.0


class Log:
    """Writes in a thread of its own, so that a reader who has stopped reading stops nobody else; what there is no room
    for is counted, and told with the next line."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
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
            try:
                self._stream.write(json.dumps(line) + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):  # gone or full: the server goes on
                continue
