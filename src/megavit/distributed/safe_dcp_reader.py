"""Read the pickled index of a distributed checkpoint without executing arbitrary code."""

import io
import pathlib
import pickle
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from megavit.errors import BundleError

INDEX = ".metadata"
# Classes and functions in PyTorch's index of tensors; none has side effects.
ALLOWED = {
    "torch.distributed.checkpoint.metadata": (
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "ChunkStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    ),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "torch.serialization": ("_get_layout",),
    "torch": ("Size", "float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool"),
}
PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")


class IndexUnpickler(pickle.Unpickler):
    """An unpickler restricted to the classes of an index."""

    def find_class(self, module: str, name: str) -> Any:
        if name in ALLOWED.get(module, ()):
            return super().find_class(module, name)
        if (module, name) == ("builtins", "getattr"):
            return _get_enum_member
        if module in ("pathlib", "pathlib._local") and name in PATHS:
            return pathlib.PurePath  # the path where it was written is not used
        raise BundleError(f"the index of a checkpoint refers to {module}.{name}, which is not allowed")


def _get_enum_member(kind: Any, name: Any) -> Enum:
    """Return the member of an enumeration, which some Python versions pickle as a call of getattr."""
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        raise BundleError(f"the index of a checkpoint refers to {name!r} of {kind!r}, which is not allowed")
    return kind[name]


def read_index(folder: Path, files: set[str]) -> Metadata:
    """Return the index of the checkpoint in `folder`, or raise BundleError unless it consists of tensors in `files`."""
    try:
        index = IndexUnpickler(io.BytesIO((folder / INDEX).read_bytes())).load()
    except BundleError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged pickle may raise anything
        raise BundleError(f"{folder / INDEX} cannot be read: {error}") from None
    if not isinstance(index, Metadata) or not isinstance(index.storage_data, dict):
        raise BundleError(f"{folder / INDEX} is not an index of tensors")
    if not all(isinstance(entry, TensorStorageMetadata) for entry in index.state_dict_metadata.values()):
        raise BundleError(f"{folder / INDEX} contains more than tensors")
    outside = sorted(map(str, {entry.relative_path for entry in index.storage_data.values()} - files))
    if outside:
        raise BundleError(f"{folder / INDEX} refers to files outside the checkpoint: {', '.join(outside)}")
    return index


class Reader(FileSystemReader):
    """A reader of a checkpoint folder whose index has already been read."""

    def __init__(self, folder: Path, index: Metadata) -> None:
        super().__init__(folder)
        self.index = index

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        return self.index


def get_shapes(index: Metadata) -> dict[str, torch.Size]:
    """Return the shape of each full tensor by name."""
    entries = index.state_dict_metadata.items()  # all are tensors, as `read_index` has checked
    return {name: entry.size for name, entry in entries if isinstance(entry, TensorStorageMetadata)}
