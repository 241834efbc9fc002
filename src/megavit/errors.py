"""What can go wrong because of what a user gave us.

Every message says what was expected, what came, and what to do. The command line prints it without a
traceback and exits with `exit_code`.
"""

import signal
from typing import Any


class MegavitError(Exception):
    """Base of every error that a user can cause and mend.

    Every one can be pickled, whatever its class is made from: processes tell each other their errors.
    """

    exit_code = 2

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_was, (type(self), self.args, self.__dict__)


class ConfigError(MegavitError, ValueError):
    """A size, a recipe or a file of settings that cannot be; also a `ValueError`."""


class DataError(MegavitError):
    """Images or tables of images that cannot be used as they are."""


class ImageError(DataError, ValueError):
    """One image that cannot be read or is refused; `reason` is a short sentence without its path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BundleError(MegavitError):
    """A bundle or a checkpoint that is missing, damaged, or not of this model."""


class OutputError(MegavitError):
    """A place that cannot be written, or is full."""


class TrainingError(MegavitError):
    """A run that cannot go on, such as one whose loss is no longer a number."""

    exit_code = 1


class DivergedError(TrainingError):
    """A run whose loss, from step `since` on, is no longer what it was; it may go back to before."""

    def __init__(self, message: str, since: int) -> None:
        super().__init__(message)
        self.since = since


class LostProcessError(MegavitError):
    """One of several processes that train together is gone, or does not come; starting them again goes on."""

    exit_code = 1


class ExportError(MegavitError):
    """A model that another runtime does not run as PyTorch does, and that was therefore not written."""

    exit_code = 1


class Interrupted(MegavitError):
    """A run that was asked to stop and did, with its work saved; `exit_code` is 128 + the signal."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def get_signal(interrupt: KeyboardInterrupt) -> int:
    """The signal behind it, which the command line passes as its argument; Python's own is Ctrl-C."""
    return interrupt.args[0] if interrupt.args else signal.SIGINT


def _as_it_was(kind: type[MegavitError], args: tuple[Any, ...], attributes: dict[str, Any]) -> MegavitError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error
