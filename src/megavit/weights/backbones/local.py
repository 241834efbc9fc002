"""Find backbones that are on this machine: in the folder of a setting, in our cache, or in that of huggingface_hub."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from megavit.config.backbones import BACKBONES, Backbone, Wheel
from megavit.errors import ConfigError
from megavit.runtime.cache import cache_folder
from megavit.runtime.hub import find_cached

FOLDER_SETTING = "MEGAVIT_BACKBONES"
"""Environment variable with a folder of backbones, each in a subfolder with its name."""


@dataclass(frozen=True)
class LocalBackbone:
    """A backbone and the folder that has its config and weights."""

    backbone: Backbone
    path: Path


def find_backbone(backbone: Backbone) -> Path | None:
    """Return the folder of a backbone on this machine, or None.

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
    """Return the folder of the backbones that megavit has fetched itself, which need not exist."""
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
    if not isinstance(backbone.where, Wheel):
        return find_cached(backbone.where)
    path = fetched_folder() / backbone.name
    return path if path.is_dir() else None
