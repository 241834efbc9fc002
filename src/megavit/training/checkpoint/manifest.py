"""Read and write a checkpoint's manifest: validated training state without tensors, and file digests."""

import hashlib
import json
from pathlib import Path
from typing import Any

from megavit.config.serialization import from_dict, parse_json
from megavit.errors import BundleError, ConfigError
from megavit.runtime.storage import write_file
from megavit.training.state import StateNumbers

MANIFEST = "manifest.json"


def write_manifest(folder: Path, numbers: dict[str, Any], digests: dict[str, str]) -> None:
    """Write a checkpoint's manifest from `TrainState.numbers` and the SHA-256 of its files by name."""
    manifest = numbers | {"files": digests}
    write_file(folder / MANIFEST, json.dumps(manifest | {"sha256": digest_manifest(manifest)}))


def read_manifest(checkpoint: Path, step: int) -> tuple[StateNumbers, dict[str, str]]:
    """Return a checkpoint's numbers and file digests, or raise BundleError if its manifest is altered or invalid."""
    path = checkpoint / MANIFEST
    manifest = parse_json(path.read_bytes(), str(path), BundleError)
    if manifest.pop("sha256", None) != digest_manifest(manifest):
        raise BundleError(f"{path} is damaged: its SHA-256 is not the recorded one")
    digests = manifest.pop("files")
    try:
        numbers = from_dict(StateNumbers, manifest, str(path))
    except ConfigError as error:
        raise BundleError(str(error)) from None
    if numbers.step != step:
        raise BundleError(
            f"{path} cannot be used: it is from step {numbers.step:,}, but its folder is named after step {step:,}"
        )
    return numbers, digests


def digest_manifest(manifest: dict[str, Any]) -> str:
    """Return the SHA-256 of a manifest, which detects changes to it."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
