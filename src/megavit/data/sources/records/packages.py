"""Import the optional packages that read further kinds of data."""

import importlib
from types import ModuleType

from megavit.errors import DataError


def import_package(package: str, extra: str, kind: str) -> ModuleType:
    """Return an optional package, or raise a DataError that says how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise DataError(f'reading {kind} needs a further package: pip install "megavit[{extra}]"') from None
