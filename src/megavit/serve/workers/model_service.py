"""One model at work: its worker, what waits for it, and what becomes of both when the worker dies or is replaced."""

import asyncio
import contextlib
import math
import time
from collections import deque
from itertools import count
from typing import Any

from megavit.errors import BundleError
from megavit.serve.errors import ApiError
from megavit.serve.logging import Log
from megavit.serve.metrics import Metrics
from megavit.serve.model_sources import Version
from megavit.serve.request_body import Room
from megavit.serve.settings import Options, Settings, WorkerSettings
from megavit.serve.workers.client import Image, Link, Reply
from megavit.serve.workers.lookout import LOOK_SECONDS, Lookout

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Before a worker that again died without any image, or did not come up, is started anew; doubled each time."""
ENDED_ALONE = 2
"""Workers that an image may end by itself before it is given up."""
ABANDONED_SHARE = 1 / 60
"""Of the time that a worker may take to load, after which a bundle that has been replaced meanwhile is let go; doubled
each time, so that of bundles that are replaced all the time one is loaded to its end."""
_RATE_WEIGHT = 0.02
# A ValueError is from a process that says anything but frames.
_NOT_STARTED = (BundleError, OSError, ValueError)


class ModelService:
    """Accepts images, and sees to it that each gets a reply.

    Images go to the worker at once. Those that a worker had when it died are suspects: they are sent to the next one
    alone, one after the other, and what ends a worker alone twice is given up; so the others get their answers.

    Attributes:
        name: in addresses.
        first: to wait for; it ends when the model is ready, or with the BundleError that says why it cannot be.
        spawned: set once the first worker process runs.
    """

    def __init__(self, name: str, source: str, settings: Settings, metrics: Metrics, log: Log, room: Room) -> None:
        self.name, self._source, self._settings = name, source, settings
        self._metrics, self._log, self._room = metrics, log, room
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.spawned = asyncio.Event()
        self._ids = count()
        self._described: dict[str, Any] = {}
        self._trial: Image | None = None
        self._current: Link | None = None
        self._links: set[Link] = set()
        self._waiting: deque[Image] = deque()
        self._suspects: deque[Image] = deque()
        self._lookout = Lookout(source)
        self._loading: asyncio.Task[None] | None = None
        self._abandoned = 0
        self._ending: set[asyncio.Task[None]] = set()
        self._version: Version | None = None
        self._refused: Version | None = None
        self._failures = 0
        self._wake = asyncio.Event()
        self._seconds_each = 0.0
        self._last_reply = 0.0
        self._closing = False
        self._task = asyncio.create_task(self._keep())
        metrics.outstanding.labels(name).set_function(lambda: self.outstanding)
        metrics.ready.labels(name).set_function(lambda: self.ready)

    @property
    def ready(self) -> bool:
        """Whether there is a worker."""
        return self._current is not None

    @property
    def outstanding(self) -> int:
        """Images accepted and not yet answered, with those that a worker has still to drop."""
        return len(self._waiting) + len(self._suspects) + sum(len(link.unfinished) for link in self._links)

    def describe(self) -> dict[str, Any]:
        """As `GET /models` lists it; without a worker, what the last one told."""
        return {"name": self.name, **self._described, "ready": self.ready}

    def check(self, images: int = 1) -> None:
        """Raise an ApiError unless so many more images would be accepted now."""
        if self._current is None and (not self.first.done() or self._failures > 1):
            raise ApiError(503, f"the model {self.name} is not ready; try again in a moment", retry_after=2)
        if self.outstanding + images > self._settings.queue:
            raise ApiError(
                429,
                f"{self.outstanding} images wait for the model {self.name} already; try again in a moment",
                retry_after=self._retry_after(),
            )

    def submit(self, images: list[bytearray], options: Options) -> list[Image]:
        """Accept images; their bytes, which the room counts, are given back when they are done with.

        Raises:
            Refusal: for all of them.
        """
        try:
            self.check(len(images))
        except ApiError:
            self._room.give(sum(map(len, images)))
            raise
        loop = asyncio.get_running_loop()
        accepted = [Image(next(self._ids), data, options, loop.create_future()) for data in images]
        self._waiting += accepted
        self._send()
        return accepted

    def cancel(self, image: Image) -> None:
        """Nobody waits for the image any more."""
        if image.reply.done():
            return
        for queue in (self._waiting, self._suspects):
            if image in queue:
                queue.remove(image)
                self._finish(image, Reply("cancelled"))
                return
        image.cancelled_at = asyncio.get_running_loop().time()
        for link in self._links:
            if image.id in link.unfinished:
                link.cancel(image)

    async def close(self) -> None:
        """End the workers."""
        self._closing = True
        for task in (self._task, self._loading):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await asyncio.gather(*(link.end() for link in self._links), *self._ending)

    def kill(self) -> None:
        for link in self._links:
            link.kill()

    async def _keep(self) -> None:
        """Keep a worker of the newest bundle running. Nothing here waits for a worker, or for a disk."""
        loop = asyncio.get_running_loop()
        version, since = None, 0.0
        while True:
            self._wake.clear()
            newest = self._lookout.version
            is_new = newest is not None and newest not in (self._version, self._refused)
            if self._loading is None and (is_new or self._current is None):
                version, since = newest, loop.time()
                self._loading = asyncio.create_task(self._load(version))
            elif self._loading is not None and newest not in (None, version) and loop.time() > since + self._patience:
                self._log("load_abandoned", model=self.name, why="the bundle was replaced while it was being loaded")
                self._abandoned += 1
                self._loading.cancel()
            self._kill_hanging()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_SECONDS)

    async def _load(self, version: Version | None) -> None:
        """Have a worker of the bundle that lies there take over; where it does not come up, one that runs goes on."""
        try:
            if self._current is None:
                await asyncio.sleep(self._pause)
            link = await self._launch()
        except _NOT_STARTED as error:
            self._not_loaded(version, error)
        else:
            self._take_over(link, version)
        finally:
            self._loading = None
            self._wake.set()

    def _not_loaded(self, version: Version | None, error: Exception) -> None:
        if not self.first.done():
            self.first.set_exception(error)
            self._task.cancel()  # to be closed
        elif self._current is not None:
            self._refused = version
            self._metrics.swaps.labels(self.name, "refused").inc()
            self._log("swap_refused", model=self.name, error=str(error))
        else:
            self._failures += 1
            self._log("worker_not_started", model=self.name, error=str(error), again_in_seconds=self._pause)

    async def _launch(self) -> Link:
        own = self._settings
        settings = WorkerSettings(
            source=self._source,
            device=own.device,
            precision=own.precision,
            keep_aspect=own.keep_aspect,
            batch_size=own.batch_size,
            max_pixels=own.max_pixels,
            batch_seconds=own.timeout / 4,
        )
        return await Link.start(own.worker, settings, own.load_timeout, self.spawned.set)

    def _take_over(self, link: Link, version: Version | None) -> None:
        old = self._current
        self._links.add(link)
        self._current, self._version, self._described = link, version, link.model
        self._abandoned = 0
        link.watch(self._replied, self._ended)
        self._send()
        if old is None:
            self._log("ready", model=self.name)
        else:
            self._metrics.swaps.labels(self.name, "taken").inc()
            self._log("swapped", model=self.name)
            if not old.unfinished:
                self._let_go(old)
        if not self.first.done():
            self.first.set_result(None)

    def _let_go(self, link: Link) -> None:
        """Of a worker that has answered all that it had."""
        ending = asyncio.create_task(link.end(self._settings.timeout))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def _send(self) -> None:
        link = self._current
        if link is None:
            return
        if not link.unfinished:
            self._last_reply = time.monotonic()
        if self._suspects or self._trial is not None:
            # Alone, so that if the worker dies again it is known of what.
            if not link.unfinished and self._suspects:
                self._trial = self._suspects.popleft()
                link.send(self._trial)
            return
        while self._waiting:
            link.send(self._waiting.popleft())

    def _replied(self, link: Link, image: Image, reply: Reply) -> None:
        now = time.monotonic()
        self._seconds_each += _RATE_WEIGHT * (now - self._last_reply - self._seconds_each)
        self._last_reply = now
        self._failures = 0
        if image is self._trial:
            self._trial = None
        if reply.batch:
            self._metrics.batches.labels(self.name).observe(reply.batch)
        self._finish(image, reply)
        if link is not self._current and not link.unfinished:
            self._let_go(link)
        self._send()

    def _finish(self, image: Image, reply: Reply) -> None:
        self._room.give(len(image.data))
        outcome = "cancelled" if image.cancelled_at is not None else reply.outcome
        self._metrics.images.labels(self.name, outcome).inc()
        if reply.unlike:
            self._metrics.unlike.labels(self.name).inc()
        if not image.reply.done():
            image.reply.set_result(reply)

    def _ended(self, link: Link) -> None:
        self._links.discard(link)
        left = list(link.unfinished.values())
        if self._closing or (link is not self._current and not left):
            return
        self._metrics.restarts.labels(self.name).inc()
        self._log("worker_ended", model=self.name, images=len(left), why=link.last_words())
        for image in left:
            if image is self._trial:
                self._trial = None
            image.ended_alone += len(left) == 1
            if image.cancelled_at is not None:
                self._finish(image, Reply("cancelled"))
            elif image.ended_alone >= ENDED_ALONE:
                reason = "this image twice ended the process that answers; it is not tried again"
                self._finish(image, Reply("failed", reason))
            else:
                self._suspects.append(image)
        if link is self._current:
            self._current = None
            self._failures += not left
        self._wake.set()
        self._send()

    @property
    def _pause(self) -> float:
        """Before the next start: none after the first failure."""
        return min(FIRST_PAUSE * 2 ** (self._failures - 2), LONGEST_PAUSE) if self._failures > 1 else 0.0

    @property
    def _patience(self) -> float:
        return self._settings.load_timeout * ABANDONED_SHARE * 2**self._abandoned

    def _kill_hanging(self) -> None:
        """A worker that does not drop, in half the time that a request has, what nobody waits for any more."""
        late = asyncio.get_running_loop().time() - self._settings.timeout / 2
        for link in self._links:
            if any(image.cancelled_at is not None and image.cancelled_at < late for image in link.unfinished.values()):
                self._log("worker_hangs", model=self.name)
                link.kill()

    def _retry_after(self) -> int:
        return min(60, max(1, math.ceil(self.outstanding * self._seconds_each)))
