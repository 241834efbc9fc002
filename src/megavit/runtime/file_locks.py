"""Lock files against other processes; the locks end with the process that holds them.

Without locks, as on some network file systems, the functions return False.
"""

import errno
import os

_HELD = (errno.EACCES, errno.EAGAIN)


def lock_for_process(handle: int) -> bool:
    """Lock a file that is open for writing for this process, without its forked children, and return True.

    Raises:
        BlockingIOError: if another process holds the lock.
    """
    try:
        try:
            import fcntl
        except ImportError:
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # pyrefly: ignore[missing-attribute] - Windows only
        else:
            # An flock would survive in the forked workers of a killed process.
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return False
    except OSError as error:
        if error.errno in _HELD:
            raise BlockingIOError(error.errno, os.strerror(error.errno)) from None
        return False
    return True


def lock_opened(handle: int, *, wait: bool = True) -> bool:
    """Lock an open file or folder as long as it is open, and return whether it is locked; never on Windows."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError):
        return False
    return True
