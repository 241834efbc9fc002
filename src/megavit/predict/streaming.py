"""Process a stream in batches that are full if the source is fast, and start early if it is slow."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

from megavit.errors import ImageError
from megavit.predict.postprocess.predictions import NOT_FINITE

Item = TypeVar("Item")
Result = TypeVar("Result")
Output = TypeVar("Output")

GRACE_SECONDS = 0.02
"""A prepared batch waits this long for another item: enough for files in a folder, too short for typed lines."""
_READER_JOIN_SECONDS = 1.0


class BatchStreamer(Generic[Item, Result]):
    """A context manager that prepares the items of `source` in threads and yields them in batches.

    A separate thread reads the source, which may block. Unfinished items are cancelled at exit.

    Args:
        source: pairs of an item and the argument for `work`.
        work: function that prepares an item, run by `workers` threads.
        ahead: maximum number of items read ahead of the consumer.
        max_bytes: maximum bytes of results that wait for the consumer, beyond one result per worker; None for no limit.
    """

    def __init__(
        self,
        source: Iterable[tuple[Item, object]],
        work: Callable[[object], Result],
        *,
        ahead: int,
        workers: int,
        max_bytes: int | None = None,
    ) -> None:
        self._source, self._work = source, work
        self._arrived: SimpleQueue[tuple[Item, Future[Result]] | BaseException | None] = SimpleQueue()
        self._ahead, self._workers, self._max_bytes = ahead, workers, max_bytes
        self._changed = Condition()
        self._open: deque[Future[Result]] = deque()
        self._unfinished = self._waiting_bytes = 0
        self._stopped = False
        self._pool = ThreadPoolExecutor(workers)
        self._reader = Thread(target=self._read, daemon=True)

    def __enter__(self) -> "BatchStreamer[Item, Result]":
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._pool.shutdown(cancel_futures=True)
        # A reader that is blocked by its source cannot be woken; as a daemon it ends with the process.
        self._reader.join(_READER_JOIN_SECONDS)

    def batches(self, size: int) -> Iterator[list[tuple[Item, Future[Result]]]]:
        """Yield batches of up to `size` items, in order, then raise the source's error, if any."""
        end: BaseException | None = None
        more = True
        while more:
            batch: list[tuple[Item, Future[Result]]] = []
            while len(batch) < size:
                try:
                    arrived = self._arrived.get(timeout=GRACE_SECONDS if batch else None)
                except Empty:
                    if all(future.done() for _, future in batch):
                        break
                    continue
                if not isinstance(arrived, tuple):
                    end, more = arrived, False
                    break
                batch.append(arrived)
            if batch:
                yield batch
        if end is not None:
            raise end

    def release(self) -> None:
        """Make room for one more item; must be called once per item."""
        with self._changed:
            future = self._open.popleft()
            if self._max_bytes is not None:
                self._waiting_bytes -= _bytes_of(future)
            self._changed.notify()

    def process(
        self, size: int, compute: Callable[[list[Result]], Iterable[Output | None]]
    ) -> Iterator[tuple[Item, Output | None, str | None]]:
        """Yield each item with its output, or with None and the reason why there is none.

        `compute` maps the prepared items of a batch of up to `size` to their outputs, with None for non-finite ones.
        """
        with self:
            for batch in self.batches(size):
                prepared: dict[int, Result] = {}
                errors: dict[int, str] = {}
                for index, (_, future) in enumerate(batch):
                    try:
                        prepared[index] = future.result()
                    except ImageError as error:
                        errors[index] = error.reason
                outputs = dict(zip(prepared, compute(list(prepared.values())) if prepared else (), strict=True))
                for index, (item, _) in enumerate(batch):
                    self.release()
                    output = outputs.get(index)
                    yield item, output, errors.get(index, NOT_FINITE if output is None else None)

    def _read(self) -> None:
        try:
            items = iter(self._source)
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped or self._has_room())
                    if self._stopped:
                        return
                item, raw = next(items)
                future = self._pool.submit(self._work, raw)
                with self._changed:
                    self._open.append(future)
                    self._unfinished += 1
                if self._max_bytes is not None:
                    future.add_done_callback(self._finished)
                self._arrived.put((item, future))
                del raw  # free the memory while waiting for the next item
        except StopIteration:
            self._arrived.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in `batches`
            self._arrived.put(error)

    def _has_room(self) -> bool:
        if len(self._open) >= self._ahead:
            return False
        return self._max_bytes is None or (
            self._unfinished < self._workers and self._waiting_bytes < max(self._max_bytes, 1)
        )

    def _finished(self, future: Future[Result]) -> None:
        with self._changed:
            self._unfinished -= 1
            self._waiting_bytes += _bytes_of(future)
            self._changed.notify()


def _bytes_of(future: Future[Any]) -> int:
    if not future.done() or future.cancelled() or future.exception() is not None:
        return 0
    return getattr(future.result(), "nbytes", 0)
