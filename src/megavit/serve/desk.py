"""What a worker has to do, between the threads that read, decode and answer."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from megavit.serve.settings import Options

_FORGETTING = 0.2
"""Weight of the newest batch in what an image takes."""


@dataclass
class Job:
    """One image, from its frame to its reply."""

    id: int
    options: Options
    data: bytes
    cancelled: bool = False
    picture: Any = None
    answer: dict[str, Any] = field(default_factory=dict)
    batch: int = 0


@dataclass(frozen=True)
class Work:
    """What to do next: drop these, answer these together, and explain this one."""

    cancelled: list[Job]
    batch: list[Job]
    explained: Job | None


class Desk:
    """Jobs in the order in which they became ready. There is no waiting for a fuller batch: what is there is taken.

    Args:
        batch_size: jobs that are answered together, at most.
        batch_seconds: a batch is made no larger than what is computed in this time.
        one_takes: seconds that one image takes, until it is known better.
    """

    def __init__(self, batch_size: int, batch_seconds: float, one_takes: float) -> None:
        self._batch_size, self._batch_seconds, self._one_takes = batch_size, batch_seconds, one_takes
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

    def cancel(self, id: int) -> None:
        """Whoever meets the job next drops it; one that is closed already is no matter."""
        with self._changed:
            if id in self._jobs:
                self._jobs[id].cancelled = True

    def prepared(self, job: Job) -> None:
        with self._changed:
            self._ready.append(job)
            self._changed.notify()

    def answered(self, job: Job) -> None:
        """It waits for its explanation."""
        self._to_explain.append(job)  # by the thread that takes it

    def next(self) -> Work:
        """Waits until there is something to do."""
        cancelled: list[Job] = []
        with self._changed:
            while not self._ready and not self._to_explain:
                self._changed.wait()
            most = max(1, min(self._batch_size, int(self._batch_seconds / max(self._one_takes, 1e-9))))
            batch = _taken(self._ready, most, cancelled)
            # One after each batch, so that neither those who wait for an answer nor these wait for ever.
            explained = _taken(self._to_explain, 1, cancelled)
        return Work(cancelled, batch, explained[0] if explained else None)

    @contextmanager
    def timed(self, images: int) -> Iterator[None]:
        """About the computing of a batch: what an image takes is learnt from it."""
        began = time.perf_counter()
        yield
        took = (time.perf_counter() - began) / images
        self._one_takes += _FORGETTING * (took - self._one_takes)


def _taken(jobs: deque[Job], most: int, cancelled: list[Job]) -> list[Job]:
    taken: list[Job] = []
    while jobs and len(taken) < most:
        job = jobs.popleft()
        (cancelled if job.cancelled else taken).append(job)
    return taken
