"""What a worker has to do, between the threads that read, decode and answer."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from megavit.serve.settings import Options

MAX_HELD_BYTES = 128 * 2**20
"""Of pictures that wait for their answers; above it those that are ready wait in the threads that decode."""
_FORGETTING = 0.2
"""Weight of the newest batch in what an image takes."""


@dataclass
class Job:
    """One image, from its frame to its reply; it is `begun` while a thread is at it, its picture has `held` bytes."""

    id: int
    options: Options
    data: bytes
    begun: bool = False
    cancelled: bool = False
    picture: Any = None
    held: int = 0
    answer: dict[str, Any] = field(default_factory=dict)
    batch: int = 0


@dataclass(frozen=True)
class Work:
    """What to do next: answer these together, and explain this one."""

    batch: list[Job]
    explained: Job | None


class BatchScheduler:
    """Jobs in the order in which they became ready. There is no waiting for a fuller batch: what is there is taken.

    Args:
        batch_size: jobs that are answered together, at most.
        batch_seconds: a batch is made no larger than what is computed in this time.
        one_takes: seconds that one image takes, until it is known better.
        batch_bytes: of pictures that are answered together, at most, unless one alone has more.
    """

    def __init__(
        self, batch_size: int, batch_seconds: float, one_takes: float, batch_bytes: float = float("inf")
    ) -> None:
        self._batch_size, self._batch_seconds, self._one_takes = batch_size, batch_seconds, one_takes
        self._batch_bytes = batch_bytes
        self._held = 0
        self._jobs: dict[int, Job] = {}
        self._ready: deque[Job] = deque()
        self._to_explain: deque[Job] = deque()
        self._changed = threading.Condition()

    def open(self, id: int, options: Options, data: bytes) -> Job:
        job = Job(id, options, data)
        with self._changed:
            self._jobs[id] = job
        return job

    def close(self, job: Job) -> None:
        with self._changed:
            del self._jobs[job.id]
            self._held -= job.held
            job.held = 0
            self._changed.notify_all()

    def cancel(self, id: int) -> Job | None:
        """The job, to be closed, unless a thread is at it, which then sees that it is cancelled."""
        with self._changed:
            job = self._jobs.get(id)
            if job is None:  # closed already
                return None
            job.cancelled = True
            self._changed.notify_all()
            return None if job.begun else job

    def begin(self, job: Job) -> bool:
        """Whether its image is to be prepared: not where it was cancelled, and closed."""
        with self._changed:
            job.begun = not job.cancelled
            return job.begun

    def postponed(self, job: Job) -> bool:
        """No thread is at it for now; False where it is cancelled, and to be closed."""
        with self._changed:
            job.begun = False
            return not job.cancelled

    def prepared(self, job: Job, size: int = 0) -> bool:
        """It waits for its answer; False where it is cancelled, and to be closed.

        Waits itself while the pictures that wait have as many bytes as they may, so that no more are decoded.

        Args:
            size: of its picture, in bytes.
        """
        with self._changed:
            while self._held and self._held + size > MAX_HELD_BYTES and not job.cancelled:
                self._changed.wait()
            job.held = size
            self._held += size
        return self._put(job, self._ready)

    def answered(self, job: Job) -> bool:
        """It waits for its explanation; False where it is cancelled, and to be closed."""
        return self._put(job, self._to_explain)

    def _put(self, job: Job, queue: deque[Job]) -> bool:
        with self._changed:
            if job.cancelled:
                return False
            job.begun = False
            queue.append(job)
            self._changed.notify_all()
            return True

    def next(self) -> Work:
        """Waits until there is something to do."""
        with self._changed:
            while not self._ready and not self._to_explain:
                self._changed.wait()
            most = max(1, min(self._batch_size, int(self._batch_seconds / max(self._one_takes, 1e-9))))
            batch = _taken(self._ready, most, self._batch_bytes)
            # One after each batch, so that neither those who wait for an answer nor these wait for ever.
            explained = _taken(self._to_explain, 1)
        return Work(batch, explained[0] if explained else None)

    @contextmanager
    def timed(self, images: int) -> Iterator[None]:
        """About the computing of a batch: what an image takes is learned from it."""
        began = time.perf_counter()
        yield
        took = (time.perf_counter() - began) / images
        self._one_takes += _FORGETTING * (took - self._one_takes)


def _taken(jobs: deque[Job], most: int, most_bytes: float = float("inf")) -> list[Job]:
    taken: list[Job] = []
    size = 0
    while jobs and len(taken) < most:
        size += jobs[0].held
        if taken and size > most_bytes:
            break
        job = jobs.popleft()
        job.begun = not job.cancelled
        if job.begun:
            taken.append(job)
    return taken
