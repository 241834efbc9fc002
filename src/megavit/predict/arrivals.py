"""Work on what a source brings, in batches of what has come: a slow source is answered at once, a fast one in full."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Event, Semaphore, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# A batch waits so long for one more once all in it are done: files in a folder come quicker, people's lines do not.
GRACE_SECONDS = 0.02
_PARTING_SECONDS = 1.0


class Arrivals(Generic[Item, Result]):
    """The items of `source`, each with what `work` makes of it in one of `workers` threads.

    The source is read by a thread of its own, at most `ahead` items before the consumer, for it may keep its reader
    waiting. Used as a context; what is left is given up at its end.
    """

    def __init__(
        self, source: Iterable[tuple[Item, object]], work: Callable[[object], Result], *, ahead: int, workers: int
    ) -> None:
        self._source, self._work = source, work
        self._arrived: SimpleQueue[tuple[Item, Future[Result]] | BaseException | None] = SimpleQueue()
        self._room = Semaphore(ahead)
        self._stop = Event()
        self._pool = ThreadPoolExecutor(workers)
        self._reader = Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Arrivals[Item, Result]":
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._room.release()
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
        self._room.release()

    def _read(self) -> None:
        try:
            items = iter(self._source)
            while True:
                self._room.acquire()
                if self._stop.is_set():
                    return
                item, raw = next(items)
                self._arrived.put((item, self._pool.submit(self._work, raw)))
                del raw  # or it would be kept until the next one comes
        except StopIteration:
            self._arrived.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the answers are read
            self._arrived.put(error)
