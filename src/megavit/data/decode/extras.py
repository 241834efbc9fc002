"""Import the optional packages that read further kinds of images."""

import importlib
import logging
from types import ModuleType

from megavit.errors import ImageError


class MissingExtraError(ImageError):
    """An image of a kind that an optional package reads, which is not installed."""


def import_extra(package: str, extra: str, kind: str) -> ModuleType:
    """Return an optional package, or raise a `MissingExtraError` that says how to install it."""
    try:
        module = importlib.import_module(package)
    except ImportError:
        raise MissingExtraError(f'reading {kind} needs a further package: pip install "megavit[{extra}]"') from None
    # Without a handler, Python would print its messages on damaged files.
    logging.getLogger(package).addHandler(logging.NullHandler())
    return module
