"""Map functions over tasks in several processes, without waiting forever for a dead one."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from megavit.errors import DataError
from megavit.runtime.memory import free_memory
from megavit.runtime.processors import available_cpus, get_local_world_size

MAX_WORKERS = 8
WORKER_BYTES = 2**28
"""Memory of a process that reads images, beside what it shares with its parent: PyTorch and a few images."""

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_processes(function: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Iterator[Result]:
    """Yield a function's results in order, from `workers` processes or this one if 0; raise a DataError if one dies."""
    if not workers:
        yield from map(function, tasks)
        return
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    with ProcessPoolExecutor(workers, initializer=_init_worker) as pool:
        try:
            yield from pool.map(function, tasks)
        except BrokenProcessPool as error:
            raise DataError(
                "a process that reads images has died, probably because the system ran out of memory: close other "
                "programs or make the images smaller, then run it again. (A script that starts processes must do so "
                'below `if __name__ == "__main__":`.)'
            ) from error


def count_workers(most: int = MAX_WORKERS) -> int:
    """Return how many processes may read images at a time: one per CPU, at most `most`, and as memory allows."""
    memory = free_memory() // (WORKER_BYTES * get_local_world_size())
    return max(1, min(available_cpus(), most, memory))


def _init_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its workers
    import torch  # slow, and not needed by the parent

    torch.set_num_threads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exit when the parent is killed, instead of waiting for work forever."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
