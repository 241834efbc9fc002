"""One process a run: two that train in the same folder would write over each other's checkpoints."""

import contextlib
import errno
import fcntl
from collections.abc import Iterator
from pathlib import Path

from megavit.errors import OutputError
from megavit.runtime.storage import writing

LOCK = ".lock"


@contextlib.contextmanager
def only_process(out: Path) -> Iterator[None]:
    """Keep every other process from the run in `out`, a folder that is there, for as long as this one lives.

    Raises:
        OutputError: when another process is at it.
    """
    with contextlib.ExitStack() as stack:
        with writing("the run", out):
            file = stack.enter_context((out / LOCK).open("ab"))
        try:
            # Of the process, where an flock would live on in the workers of one that was killed.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise OutputError(
                    f"another process is training in {out}: wait until it ends or stop it, or choose another --out"
                ) from None
            # Some network file systems know no locks; nothing can be promised there.
        else:
            stack.callback((out / LOCK).unlink, missing_ok=True)
        yield
