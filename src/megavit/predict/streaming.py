"""Work on what a source brings, in batches of what has come: a slow source is answered at once, a fast one in full."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# A batch waits so long for one more once all in it are done: files in a folder come quicker, people's lines do not.
GRACE_SECONDS = 0.02
_PARTING_SECONDS = 1.0


class BatchStreamer(Generic[Item, Result]):
    """The items of `source`, each with what `work` makes of it in one of `workers` threads.

    The source is read by a thread of its own, at most `ahead` items before the consumer, for it may keep its reader
    waiting. Used as a context; what is left is given up at its end.

    Args:
        max_bytes: of results that wait for the consumer, but for one a worker; None: no limit.
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
        # Whoever waits for a line that never comes cannot be woken, and ends with the process.
        self._reader.join(_PARTING_SECONDS)

    def batches(self, most: int) -> Iterator[list[tuple[Item, Future[Result]]]]:
        """Of up to `most` items, in order; an error of the source comes after what it brought before."""
        end: BaseException | None = None
        more = True
        while more:
            batch: list[tuple[Item, Future[Result]]] = []
            while len(batch) < most:
                try:
                    came = self._arrived.get(timeout=GRACE_SECONDS if batch else None)
                except Empty:
                    if all(future.done() for _, future in batch):
                        break
                    continue
                if not isinstance(came, tuple):
                    end, more = came, False
                    break
                batch.append(came)
            if batch:
                yield batch
        if end is not None:
            raise end

    def answered(self) -> None:
        """Make room for one more item; to be called for each."""
        with self._changed:
            future = self._open.popleft()
            if self._max_bytes is not None:
                self._waiting_bytes -= _bytes_of(future)
            self._changed.notify()

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
                del raw  # or it would be kept until the next one comes
        except StopIteration:
            self._arrived.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the answers are read
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
    """Return the bytes of a result that is an array; 0 for another, and where there is none yet."""
    if not future.done() or future.cancelled() or future.exception() is not None:
        return 0
    return getattr(future.result(), "nbytes", 0)
