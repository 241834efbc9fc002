"""What the server is given to serve: names, folders, and which version of a bundle lies there."""

import re
from collections.abc import Sequence
from pathlib import Path

from megavit.errors import BundleError, ConfigError

_NAME = re.compile(r"[\w.-]{1,64}")
_INNER, _HUB = "bundle", "hf-hub:"
_MARKS = ("megavit.json", "model.onnx", "model.xml")
"""Of a bundle, and of an exported model."""

Version = tuple[int, int, int]
"""Of the file that makes a folder a bundle or an exported model; another one in its place has another version."""


def named_sources(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """(name, source) of each "FOLDER" or "NAME=FOLDER"; a folder's name is its own, or its run's.

    Raises:
        ConfigError: for a name that cannot be in an address, or comes twice.
        BundleError: for a folder that is no bundle.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        name, _, source = argument.partition("=")
        if not source or Path(argument).exists():
            source, name = argument, _own_name(argument)
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be a model's name in an address; give one, as in name={source}")
        if name in found:
            raise ConfigError(f"two models are called {name}; give one another name, as in other={source}")
        _check(source)
        found[name] = source
    if not found:
        raise ConfigError("there is no model to serve; name the folder of a bundle or of a run")
    return list(found.items())


def version_of(source: str) -> Version | None:
    """None for what is not a folder here, and while there is no model in it."""
    for file in (folder / mark for folder in (Path(source), Path(source) / _INNER) for mark in _MARKS):
        try:
            status = file.stat()
        except OSError:
            continue
        return status.st_ino, status.st_mtime_ns, status.st_size
    return None


def _own_name(source: str) -> str:
    if source.startswith(_HUB):
        return source.rpartition("/")[2]
    folder = Path(source).resolve()
    return folder.parent.name if folder.name == _INNER else folder.name


def _check(source: str) -> None:
    """What can be said at once, without loading anything."""
    if source.startswith(_HUB) or version_of(source) is not None:
        return
    raise BundleError(
        f"{source} is no bundle: it has no {_MARKS[0]}; a bundle is the folder that megavit train writes, or megavit "
        "export for onnx or openvino"
    )
