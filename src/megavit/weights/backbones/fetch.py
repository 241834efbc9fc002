"""Fetch a backbone from the Hugging Face hub, a wheel or this package, and load those that are at hand."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from megavit.config.backbones import BACKBONES, Backbone, Included, Wheel
from megavit.errors import BundleError
from megavit.runtime.hub import find_cached, hub_cache, is_offline
from megavit.weights.backbones.download import OnBytes, Patience, run_download
from megavit.weights.backbones.included import unpack_included
from megavit.weights.backbones.local import fetched_folder, find_backbone
from megavit.weights.backbones.truncate import keep_layers
from megavit.weights.backbones.wheel import fetch_wheel
from megavit.weights.pretrained.origin import Origin
from megavit.weights.pretrained.pretrained import PretrainedModel, load_pretrained

_DOWNLOAD = """
import sys
from megavit.errors import MegavitError
from megavit.runtime.hub import download
try:
    download(sys.argv[1])
except MegavitError as error:
    sys.exit(str(error))
"""
# Xet's own cache would hide the progress.
_HUB_ENV = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}


def describe_download(backbone: Backbone) -> str:
    """Return a sentence on what is fetched or unpacked: its source, size and license."""
    verb = "unpacking" if isinstance(backbone.where, Included) else "fetching"
    size = f"about {backbone.num_bytes / 1e6:,.0f} MB"
    return f"{verb} {backbone.name}: {size} from {backbone.source}, license {backbone.license}"


def fetch_backbone(backbone: Backbone, patience: Patience, on_bytes: OnBytes) -> Path:
    """Fetch or unpack a backbone into the cache, and return its folder.

    Raises:
        BundleError: if it cannot be fetched, or is not what the table says.
        OutputError: if the cache cannot be written.
    """
    if isinstance(backbone.where, Included):
        return unpack_included(backbone.name, fetched_folder() / backbone.name)
    if is_offline():
        raise BundleError(f"{backbone.name} is not on this machine, and HF_HUB_OFFLINE is set: {_advice(backbone)}")
    try:
        if isinstance(backbone.where, Wheel):
            return fetch_wheel(backbone, backbone.where, fetched_folder() / backbone.name, patience, on_bytes)
        timeouts = dict.fromkeys(("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"), f"{patience.answer:.0f}")
        command = [sys.executable, "-c", _DOWNLOAD, backbone.where]
        run_download(command, hub_cache(backbone.where), _HUB_ENV | timeouts, patience, on_bytes)
    except BundleError as error:
        raise BundleError(f"{backbone.name} cannot be fetched: {error}") from None
    path = find_cached(backbone.where)
    if path is None:
        raise BundleError(f"{backbone.name} is not complete on the hub: {_advice(backbone)}")
    return path


def load_source(
    source: str, say: Callable[[str], None], on_bytes: Callable[[Backbone], OnBytes] | None = None
) -> PretrainedModel:
    """Load weights for training from a backbone of the table, which is fetched if need be, or from any other source.

    Args:
        say: function that is called with a sentence on what is fetched, before it is.
        on_bytes: function that returns what is called with the bytes of a backbone that have arrived.

    Raises:
        BundleError, ConfigError, OutputError: if the weights cannot be found, fetched or read.
    """
    backbone = BACKBONES.get(source)
    if backbone is None:
        return load_pretrained(source, pixel_values_only=True, head=False)
    path = find_backbone(backbone)
    if path is None:
        say(describe_download(backbone))
        path = fetch_backbone(backbone, Patience(), on_bytes(backbone) if on_bytes else lambda _: None)
    return load_backbone(backbone, path)


def load_backbone(backbone: Backbone, path: Path) -> PretrainedModel:
    """Load a backbone of the table from its folder, or raise a BundleError if it is damaged.

    A damaged copy of one inside this package is unpacked again.
    """
    try:
        loaded = load_pretrained(str(path), pixel_values_only=True, head=False)
    except BundleError:
        if not isinstance(backbone.where, Included) or path != fetched_folder() / backbone.name:
            raise
        loaded = load_pretrained(str(unpack_included(backbone.name, path)), pixel_values_only=True, head=False)
    if backbone.layers is not None and backbone.layers < loaded.config.depth:
        loaded = keep_layers(loaded, backbone.layers)
    return replace(loaded, name=backbone.name, origin=Origin(backbone.source, backbone.license))


def _advice(backbone: Backbone) -> str:
    return f"run megavit backbones {backbone.name} on a machine with a network, and copy the folder that it names"
