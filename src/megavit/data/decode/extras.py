"""Import the optional packages that read further kinds of images."""

import importlib
import logging
from types import ModuleType

from megavit.errors import ImageError

NEEDS_EXTRA = "it needs a further package"
"""The start of the reason why an image of a kind that an optional package reads is skipped."""


def import_extra(package: str, extra: str, kind: str) -> ModuleType:
    """Return an optional package, or raise an ImageError that says how to install it."""
    try:
        module = importlib.import_module(package)
    except ImportError:
        raise ImageError(f'{NEEDS_EXTRA} to read {kind}: pip install "megavit[{extra}]"') from None
    # Without a handler, Python would print its messages on damaged files.
    logging.getLogger(package).addHandler(logging.NullHandler())
    return module
