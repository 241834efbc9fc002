"""Schedule batches between the threads of a worker that read, preprocess and predict images."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from megavit.serving.settings import PredictOptions

MAX_HELD_BYTES = 128 * 2**20
"""Maximum bytes of preprocessed images waiting for a batch; preprocessing waits above it."""
_SMOOTHING = 0.2
"""Weight of the newest batch in the moving average of the time per image."""


@dataclass
class Request:
    """An image from its message to its result; `started` while a thread works on it."""

    id: int
    options: PredictOptions
    data: bytes
    started: bool = False
    canceled: bool = False
    image: Any = None
    nbytes: int = 0
    result: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 0


@dataclass(frozen=True)
class Batch:
    """The next work: predictions for `requests`, and one explanation."""

    requests: list[Request]
    explain: Request | None


class BatchScheduler:
    """Batches requests in the order in which they are preprocessed, without waiting for a batch to fill.

    Args:
        max_seconds: maximum estimated seconds to compute a batch of at most `max_size` images.
        image_seconds: initial estimate of the seconds per image.
        max_bytes: maximum bytes of a batch's images, unless a single image has more.
    """

    def __init__(
        self, max_size: int, max_seconds: float, image_seconds: float, max_bytes: float = float("inf")
    ) -> None:
        self._max_size, self._max_seconds, self._image_seconds = max_size, max_seconds, image_seconds
        self._max_bytes = max_bytes
        self._held = 0
        self._requests: dict[int, Request] = {}
        self._ready: deque[Request] = deque()
        self._to_explain: deque[Request] = deque()
        self._changed = threading.Condition()

    def add(self, id: int, options: PredictOptions, data: bytes) -> Request:
        request = Request(id, options, data)
        with self._changed:
            self._requests[id] = request
        return request

    def remove(self, requests: Iterable[Request]) -> None:
        with self._changed:
            for request in requests:
                del self._requests[request.id]
                self._held -= request.nbytes
                request.nbytes = 0
            self._changed.notify_all()

    def cancel(self, id: int) -> Request | None:
        """Cancel a request; return it for the caller to remove, or None if it is gone or a thread works on it."""
        with self._changed:
            request = self._requests.get(id)
            if request is None:
                return None
            request.canceled = True
            self._changed.notify_all()
            return None if request.started else request

    def start(self, request: Request) -> bool:
        """Mark the request as started; return False if it is canceled."""
        with self._changed:
            request.started = not request.canceled
            return request.started

    def postpone(self, request: Request) -> bool:
        """Mark the request as not started; return False if it is canceled and must be removed."""
        with self._changed:
            request.started = False
            return not request.canceled

    def enqueue(self, request: Request, nbytes: int = 0) -> bool:
        """Queue a preprocessed request for prediction; return False if it is canceled and must be removed.

        Waits while the queued images exceed `MAX_HELD_BYTES`.
        """
        with self._changed:
            while self._held and self._held + nbytes > MAX_HELD_BYTES and not request.canceled:
                self._changed.wait()
            request.nbytes = nbytes
            self._held += nbytes
        return self._append(request, self._ready)

    def enqueue_explanation(self, request: Request) -> bool:
        """Queue a predicted request for its explanation; return False if it is canceled and must be removed."""
        return self._append(request, self._to_explain)

    def _append(self, request: Request, queue: deque[Request]) -> bool:
        with self._changed:
            if request.canceled:
                return False
            request.started = False
            queue.append(request)
            self._changed.notify_all()
            return True

    def next_batch(self) -> Batch:
        """Wait for work, and return the next batch."""
        with self._changed:
            while not self._ready and not self._to_explain:
                self._changed.wait()
            max_size = max(1, min(self._max_size, int(self._max_seconds / max(self._image_seconds, 1e-9))))
            requests = _take(self._ready, max_size, self._max_bytes)
            # One explanation per batch, so that neither starves.
            explain = _take(self._to_explain, 1)
        return Batch(requests, explain[0] if explain else None)

    @contextmanager
    def timed(self, images: int) -> Iterator[None]:
        """Update the estimated seconds per image from the time that the context takes."""
        started = time.perf_counter()
        yield
        self._image_seconds += _SMOOTHING * ((time.perf_counter() - started) / images - self._image_seconds)


def _take(queue: deque[Request], max_size: int, max_bytes: float = float("inf")) -> list[Request]:
    taken: list[Request] = []
    size = 0
    while queue and len(taken) < max_size:
        size += queue[0].nbytes
        if taken and size > max_bytes:
            break
        request = queue.popleft()
        request.started = not request.canceled
        if request.started:
            taken.append(request)
    return taken
