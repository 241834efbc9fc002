"""Define errors that a user can cause, whose messages say what was expected, what came and what to do.

The command line prints the message without a traceback and exits with `exit_code`.
"""

import signal
from typing import Any


class MegavitError(Exception):
    """The base of all errors that a user can cause and fix, each of which can be pickled."""

    exit_code = 2

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_was, (type(self), self.args, self.__dict__)


class ConfigError(MegavitError, ValueError):
    """An invalid setting, recipe or configuration file; also a `ValueError`."""


class DataError(MegavitError):
    """Images, or tables of images, that cannot be used."""


class ImageError(DataError, ValueError):
    """An image that cannot be read or is refused; `reason` is a short sentence without its path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BundleError(MegavitError):
    """A bundle or checkpoint that is missing, damaged, or of another model."""


class OutputError(MegavitError):
    """An output path that cannot be written, or a full disk."""


class TrainingError(MegavitError):
    """A training run that cannot continue, such as one whose loss is not finite."""

    exit_code = 1


class DivergedError(TrainingError):
    """A run whose loss diverged at step `since`, and which may return to an earlier checkpoint."""

    def __init__(self, message: str, since: int) -> None:
        super().__init__(message)
        self.since = since


class LostProcessError(MegavitError):
    """A process of a distributed run that ended or did not start; restarting all of them resumes the run."""

    exit_code = 1


class ExportError(MegavitError):
    """A model whose outputs in another runtime differ from PyTorch's, and which was therefore not written."""

    exit_code = 1


class Interrupted(MegavitError):
    """A run that was asked to stop and has saved its work; `exit_code` is 128 + the signal number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def get_signal(interrupt: KeyboardInterrupt) -> int:
    """Return the number of the signal behind an interrupt; SIGINT unless the command line passed another."""
    return interrupt.args[0] if interrupt.args else signal.SIGINT


def _as_it_was(kind: type[MegavitError], args: tuple[Any, ...], attributes: dict[str, Any]) -> MegavitError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error
