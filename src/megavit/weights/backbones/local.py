"""Find backbones on this machine: in a setting's folder, our cache, that of huggingface_hub, or this package."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from megavit.config.backbones import BACKBONES, Backbone, Included
from megavit.errors import ConfigError, OutputError
from megavit.runtime.cache import cache_folder
from megavit.runtime.hub import find_cached
from megavit.weights.backbones.included import unpack_included

FOLDER_SETTING = "MEGAVIT_BACKBONES"
"""Environment variable with a folder of backbones, each in a subfolder with its name."""


@dataclass(frozen=True)
class LocalBackbone:
    """A backbone and the folder that has its config and weights."""

    backbone: Backbone
    path: Path


def find_backbone(backbone: Backbone) -> Path | None:
    """Return the folder of a backbone on this machine, or None; one inside this package is unpacked into the cache.

    Raises:
        ConfigError: if the folder that `FOLDER_SETTING` names does not exist.
    """
    return _in_folder(backbone) or _in_cache(backbone)


def find_backbones() -> Iterator[LocalBackbone]:
    """Yield the backbones on this machine in the order of preference, those in the folder of the setting first."""
    for find in (_in_folder, _in_cache):
        for backbone in BACKBONES.values():
            if (path := find(backbone)) is not None:
                yield LocalBackbone(backbone, path)


def fetched_folder() -> Path:
    """Return the folder of the backbones that megavit has fetched or unpacked itself, which need not exist."""
    return cache_folder() / "backbones"


def _in_folder(backbone: Backbone) -> Path | None:
    setting = os.environ.get(FOLDER_SETTING)
    if not setting:
        return None
    if not Path(setting).is_dir():
        raise ConfigError(f"{FOLDER_SETTING} is {setting}, which is not a folder: correct it, or unset it")
    path = Path(setting) / backbone.name
    return path if path.is_dir() else None


def _in_cache(backbone: Backbone) -> Path | None:
    if isinstance(backbone.where, str):
        return find_cached(backbone.where)
    path = fetched_folder() / backbone.name
    if path.is_dir():
        return path
    if isinstance(backbone.where, Included):
        try:
            return unpack_included(backbone.name, path)
        except OutputError:  # there is no cache
            return None
    return None
