"""Serve one model: queue its images, and handle crashes of its worker and replacements of its bundle."""

import asyncio
import contextlib
import math
import time
from collections import deque
from itertools import count
from typing import Any

from megavit.errors import BundleError
from megavit.runtime.processors import available_cpus
from megavit.serving.errors import ApiError
from megavit.serving.logging import log_event
from megavit.serving.metrics import Metrics
from megavit.serving.model_sources import POLL_SECONDS, BundleMonitor, Version
from megavit.serving.request_body import ByteBudget
from megavit.serving.settings import PredictOptions, Settings, WorkerSettings
from megavit.serving.workers.client import PendingImage, WorkerClient
from megavit.serving.workers.protocol import Result

FIRST_BACKOFF, MAX_BACKOFF = 1.0, 30.0
"""Seconds before restarting a worker that crashed without an image or failed to start; doubled each time."""
MAX_SOLO_CRASHES = 2
"""Number of workers that an image alone may crash before it is given up."""
ABANDON_SHARE = 1 / 60
"""Share of the load timeout after which loading a replaced bundle is abandoned; doubled each time, so that one of the
bundles is loaded eventually."""
BATCHES_AHEAD = 3
"""Maximum number of full batches that the worker has: one computed, one preprocessed, and one to spare. More would not
make it faster, and each message interrupts it."""
_SMOOTHING = 0.02
# A ValueError comes from a process that sends invalid messages.
_START_ERRORS = (BundleError, OSError, ValueError)


class ModelService:
    """The service of one model, which makes sure that each accepted image gets a reply.

    The worker gets images at once, unless it has `BATCHES_AHEAD` batches. If it crashes, its images are sent to the
    next worker one at a time, and one that crashes a worker alone twice is given up, so that the others get
    predictions.

    Attributes:
        first_ready: future that is done when the model is ready, or fails with the reason why it cannot be.
        spawned: set once the first worker process runs.
    """

    def __init__(self, name: str, source: str, settings: Settings, metrics: Metrics, budget: ByteBudget) -> None:
        self.name, self._source, self._settings = name, source, settings
        self._metrics, self._budget = metrics, budget
        self.first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.spawned = asyncio.Event()
        self._max_pending = BATCHES_AHEAD * max(settings.max_batch_size, available_cpus())  # each preprocesses one
        self._ids = count()
        self._description: dict[str, Any] = {}
        self._current: WorkerClient | None = None
        self._clients: set[WorkerClient] = set()
        self._waiting: deque[PendingImage] = deque()
        self._suspects: deque[PendingImage] = deque()
        self._isolated: PendingImage | None = None
        self._monitor = BundleMonitor(source)
        self._version: Version | None = None
        self._failed_version: Version | None = None
        self._loading: asyncio.Task[None] | None = None
        self._abandoned = 0
        self._stopping: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._wake = asyncio.Event()
        self._image_seconds = 0.0
        self._last_reply = 0.0
        self._closing = False
        self._supervisor = asyncio.create_task(self._supervise())
        metrics.images_in_progress.labels(name).set_function(lambda: self.in_progress)
        metrics.ready.labels(name).set_function(lambda: self.is_ready)

    @property
    def is_ready(self) -> bool:
        return self._current is not None

    @property
    def _is_started(self) -> bool:
        """Whether the model is ready, or soon is again after a crash."""
        return self._current is not None or (self.first_ready.done() and self._failures <= 1)

    @property
    def in_progress(self) -> int:
        """Number of accepted images without a reply, including canceled ones that a worker still has."""
        return len(self._waiting) + len(self._suspects) + sum(len(client.pending) for client in self._clients)

    def describe(self) -> dict[str, Any]:
        """Return the model's entry in `GET /models`, as its latest worker described it."""
        return {"name": self.name, **self._description, "ready": self.is_ready}

    def check(self, images: int = 1) -> None:
        """Raise an ApiError unless this many more images would be accepted now."""
        if not self._is_started:
            raise ApiError(503, f"the model {self.name} is not ready; try again in a moment", retry_after=2)
        error = self.find_overload(images)
        if error is not None:
            raise error

    def find_overload(self, images: int = 1) -> ApiError | None:
        """Return the error for this many more images if too many are waiting, else None."""
        if self.in_progress + images <= self._settings.queue_size or not self._is_started:
            return None
        return ApiError(
            429,
            f"{self.in_progress} images are already waiting for the model {self.name}; try again in a moment",
            retry_after=min(60, max(1, math.ceil(self.in_progress * self._image_seconds))),
        )

    def submit(self, images: list[bytearray], options: PredictOptions) -> list[PendingImage]:
        """Accept images; their bytes are released to the budget with the replies.

        Raises:
            ApiError: if the images are not accepted.
        """
        try:
            self.check(len(images))
        except ApiError:
            self._budget.release(sum(map(len, images)))
            raise
        loop = asyncio.get_running_loop()
        accepted = [PendingImage(next(self._ids), data, options, loop.create_future()) for data in images]
        if not self._waiting:
            loop.call_soon(self._send)  # with what arrives until then
        self._waiting += accepted
        return accepted

    def cancel(self, image: PendingImage) -> None:
        """Drop an image that nobody waits for."""
        if image.reply.done():
            return
        for queue in (self._waiting, self._suspects):
            if image in queue:
                queue.remove(image)
                self._finish(image, Result(image.id, "canceled"))
                return
        image.canceled_at = asyncio.get_running_loop().time()
        for client in self._clients:
            if image.id in client.pending:
                client.cancel(image)

    async def close(self) -> None:
        """Stop the workers."""
        self._closing = True
        for task in (self._supervisor, self._loading):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await asyncio.gather(*(client.stop() for client in self._clients), *self._stopping)

    def kill(self) -> None:
        for client in self._clients:
            client.kill()

    async def _supervise(self) -> None:
        """Keep a worker of the newest bundle running, without waiting for a worker or a disk."""
        loop = asyncio.get_running_loop()
        loading_version, abandon_at = None, 0.0
        while True:
            self._wake.clear()
            newest = self._monitor.version
            is_new = newest is not None and newest not in (self._version, self._failed_version)
            if self._loading is None and (is_new or self._current is None):
                loading_version = newest
                abandon_at = loop.time() + self._settings.load_timeout * ABANDON_SHARE * 2**self._abandoned
                self._loading = asyncio.create_task(self._load(newest))
            elif self._loading is not None and newest not in (None, loading_version) and loop.time() > abandon_at:
                log_event("load_abandoned", model=self.name, reason="the bundle was replaced while it was loading")
                self._abandoned += 1
                self._loading.cancel()
            self._kill_unresponsive()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)

    async def _load(self, version: Version | None) -> None:
        """Start a worker of the current bundle and switch to it; if it fails, the old worker continues."""
        try:
            if self._current is None:
                await asyncio.sleep(self._backoff)
            shared = self._settings
            settings = WorkerSettings(
                source=self._source,
                device=shared.device,
                precision=shared.precision,
                keep_aspect=shared.keep_aspect,
                max_batch_size=shared.max_batch_size,
                max_pixels=shared.max_pixels,
                max_batch_seconds=shared.timeout / 4,
            )
            client = await WorkerClient.start(shared.worker_module, settings, shared.load_timeout, self.spawned.set)
        except _START_ERRORS as error:
            self._on_load_failure(version, error)
        else:
            self._switch_to(client, version)
        finally:
            self._loading = None
            self._wake.set()

    def _on_load_failure(self, version: Version | None, error: Exception) -> None:
        if not self.first_ready.done():
            self.first_ready.set_exception(error)
            self._supervisor.cancel()
        elif self._current is not None:
            self._failed_version = version
            self._metrics.reloads.labels(self.name, "failed").inc()
            log_event("reload_failed", model=self.name, error=str(error))
        else:
            self._failures += 1
            log_event("worker_start_failed", model=self.name, error=str(error), retry_seconds=self._backoff)

    def _switch_to(self, client: WorkerClient, version: Version | None) -> None:
        old = self._current
        self._clients.add(client)
        self._current, self._version, self._description = client, version, client.model
        self._abandoned = 0
        client.watch(self._on_results, self._on_exit)
        self._send()
        if old is None:
            log_event("model_ready", model=self.name, note=client.note)
        else:
            self._metrics.reloads.labels(self.name, "succeeded").inc()
            log_event("model_reloaded", model=self.name, note=client.note)
            if not old.pending:
                self._retire(old)
        if not self.first_ready.done():
            self.first_ready.set_result(None)

    def _retire(self, client: WorkerClient) -> None:
        task = asyncio.create_task(client.stop(self._settings.timeout))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    def _send(self) -> None:
        client = self._current
        if client is None:
            return
        if not client.pending:
            self._last_reply = time.monotonic()
        if self._suspects or self._isolated is not None:
            # One at a time, to identify the image that crashes the worker.
            if not client.pending and self._suspects:
                self._isolated = self._suspects.popleft()
                client.send([self._isolated])
            return
        free = self._max_pending - len(client.pending)
        client.send([self._waiting.popleft() for _ in range(min(free, len(self._waiting)))])

    def _on_results(self, client: WorkerClient, results: list[tuple[PendingImage, Result, bytes]]) -> None:
        now = time.monotonic()
        for image, result, prediction in results:
            self._image_seconds += _SMOOTHING * ((now - self._last_reply) / len(results) - self._image_seconds)
            if image is self._isolated:
                self._isolated = None
            if result.batch_size:
                self._metrics.batch_size.labels(self.name).observe(result.batch_size)
            self._finish(image, result, prediction)
        self._last_reply = now
        self._failures = 0
        if client is not self._current and not client.pending:
            self._retire(client)
        self._send()

    def _finish(self, image: PendingImage, result: Result, prediction: bytes = b"") -> None:
        self._budget.release(len(image.data))
        self._metrics.images.labels(self.name, result.outcome if image.canceled_at is None else "canceled").inc()
        if result.out_of_distribution:
            self._metrics.out_of_distribution.labels(self.name).inc()
        if not image.reply.done():
            image.reply.set_result((result, prediction))

    def _on_exit(self, client: WorkerClient) -> None:
        self._clients.discard(client)
        pending = list(client.pending.values())
        if self._closing or (client is not self._current and not pending):
            return
        self._metrics.worker_restarts.labels(self.name).inc()
        log_event("worker_exited", model=self.name, images=len(pending), reason=client.exit_reason())
        for image in pending:
            if image is self._isolated:
                self._isolated = None
            image.solo_crashes += len(pending) == 1
            if image.canceled_at is not None:
                self._finish(image, Result(image.id, "canceled"))
            elif image.solo_crashes >= MAX_SOLO_CRASHES:
                error = "this image crashed the worker process twice and is not retried"
                self._finish(image, Result(image.id, "failed", error))
            else:
                self._suspects.append(image)
        if client is self._current:
            self._current = None
            self._failures += not pending
        self._wake.set()
        self._send()

    @property
    def _backoff(self) -> float:
        """Seconds before the next start: none after the first failure."""
        return min(FIRST_BACKOFF * 2 ** (self._failures - 2), MAX_BACKOFF) if self._failures > 1 else 0.0

    def _kill_unresponsive(self) -> None:
        """Kill workers that have not dropped a canceled image within half the timeout of a request."""
        deadline = asyncio.get_running_loop().time() - self._settings.timeout / 2
        for client in self._clients:
            if any(image.canceled_at is not None and image.canceled_at < deadline for image in client.pending.values()):
                log_event("worker_unresponsive", model=self.name)
                client.kill()
