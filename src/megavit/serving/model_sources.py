"""Parse the models to serve, and detect when their bundles are replaced."""

import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from megavit.errors import BundleError, ConfigError

POLL_SECONDS = 1.0
"""Seconds between two checks of a bundle's version."""
_NAME = re.compile(r"[\w.-]{1,64}")
_INNER, _HUB = "bundle", "hf-hub:"
_MARKERS = ("megavit.json", "model.onnx", "model.xml")
"""Files that identify a folder as a bundle or an exported model."""

Version = tuple[int, int, int]
"""Inode, modification time in nanoseconds and size of the marker file, which change if a bundle is replaced."""


def parse_sources(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name, source) of each "FOLDER" or "NAME=FOLDER"; the default name is that of the folder or run.

    Raises:
        ConfigError: if a name cannot be part of a URL or occurs twice, or there is no model.
        BundleError: if a folder is not a bundle.
    """
    sources: dict[str, str] = {}
    for argument in arguments:
        name, _, source = argument.partition("=")
        if not source or Path(argument).exists():
            source, name = argument, _default_name(argument)
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be used as a model name in a URL: choose another, as in name={source}")
        if name in sources:
            raise ConfigError(f"two models are named {name}: rename one of them, as in other={source}")
        if not source.startswith(_HUB) and get_version(source) is None:
            raise BundleError(
                f"{source} is not a bundle: it has no {_MARKERS[0]}; use a folder written by megavit train, or by "
                "megavit export for onnx or openvino"
            )
        sources[name] = source
    if not sources:
        raise ConfigError("there is no model to serve: pass the folder of a bundle or run")
    return list(sources.items())


def get_version(source: str) -> Version | None:
    """Return the version of the bundle in a folder; None if there is none."""
    for path in (folder / name for folder in (Path(source), Path(source) / _INNER) for name in _MARKERS):
        try:
            status = path.stat()
        except OSError:
            continue
        return status.st_ino, status.st_mtime_ns, status.st_size
    return None


class BundleMonitor:
    """A thread that watches the `version` of a bundle, None if there is none; reading from a disk may hang."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.version = get_version(source)
        threading.Thread(target=self._poll, daemon=True).start()

    def _poll(self) -> None:
        while True:
            time.sleep(POLL_SECONDS)
            self.version = get_version(self._source)


def _default_name(source: str) -> str:
    if source.startswith(_HUB):
        return source.rpartition("/")[2]
    folder = Path(source).resolve()
    return folder.parent.name if folder.name == _INNER else folder.name
