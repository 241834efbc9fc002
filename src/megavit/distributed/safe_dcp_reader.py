"""Reading the index of a distributed checkpoint, which is a pickle, without running what it might hold."""

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
# What PyTorch's index of tensors is made of, and nothing that does anything.
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
    """Knows the classes of an index alone."""

    def find_class(self, module: str, name: str) -> Any:
        if name in ALLOWED.get(module, ()):
            return super().find_class(module, name)
        if (module, name) == ("builtins", "getattr"):
            return _member
        if module in ("pathlib", "pathlib._local") and name in PATHS:
            return pathlib.PurePath  # where it was written, of which nothing is made
        raise BundleError(f"the index of a checkpoint holds {module}.{name}, which has no place in there")


def _member(kind: Any, name: Any) -> Enum:
    """The value of that name of an enumeration, which some versions of Python pickle as a call of getattr."""
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        raise BundleError(f"the index of a checkpoint asks for {name!r} of {kind!r}, which has no place in there")
    return kind[name]


def read_index(folder: Path, files: set[str]) -> Metadata:
    """The index of the checkpoint in `folder`, of tensors in `files` alone.

    Raises:
        BundleError: when it holds anything else.
    """
    try:
        index = IndexUnpickler(io.BytesIO((folder / INDEX).read_bytes())).load()
    except BundleError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged pickle fails in any way
        raise BundleError(f"{folder / INDEX} cannot be read: {error}") from None
    if not isinstance(index, Metadata) or not isinstance(index.storage_data, dict):
        raise BundleError(f"{folder / INDEX} is no index of tensors")
    if not all(isinstance(entry, TensorStorageMetadata) for entry in index.state_dict_metadata.values()):
        raise BundleError(f"{folder / INDEX} holds more than tensors")
    outside = {place.relative_path for place in index.storage_data.values()} - files
    if outside:
        raise BundleError(f"{folder / INDEX} points to {', '.join(sorted(map(str, outside)))}")
    return index


class Reader(FileSystemReader):
    """PyTorch's reader of a folder, with an index that was read before."""

    def __init__(self, folder: Path, index: Metadata) -> None:
        super().__init__(folder)
        self.index = index

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        return self.index


def shape_of(index: Metadata, name: str) -> torch.Size:
    """Of the whole tensor."""
    entry = index.state_dict_metadata[name]
    assert isinstance(entry, TensorStorageMetadata)  # `read_index` lets no other pass
    return entry.size
