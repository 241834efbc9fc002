"""Read tensors by name from safetensors, PyTorch and NumPy files without executing code from them."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megavit.errors import BundleError
from megavit.runtime.memory import main_memory
from megavit.weights.bundle.safetensors_io import read_tensors, unreadable
from megavit.weights.pretrained.pickled import UNREADABLE, Placeholder, load_pickled

# File names in order of preference; an index lists the files of a sharded checkpoint.
NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)
PYTORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")

# Maximum nesting of tables; only malicious files exceed it.
MAX_DEPTH = 16


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The contents of a weights file.

    Attributes:
        tables: state dicts by path in the file: keys of nested tables joined by slashes, or "" for the file itself.
        unread: classes and functions that the file names, which were neither imported nor called.
        keys: keys of the outermost table, for messages.
    """

    tables: dict[str, dict[str, Tensor]]
    unread: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


def find_checkpoint(folder: Path) -> Path:
    """Return the weights file in a folder; raise a BundleError if there is none or the choice is ambiguous."""
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    if (folder / ".metadata").is_file() and any(folder.glob("*.distcp")):
        raise BundleError(
            f"{folder} is a sharded checkpoint of torch.distributed.checkpoint: convert it to one file with python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pth"
        )
    others = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".npz", *PYTORCH_SUFFIXES)]
    if len(others) == 1:
        return others[0]
    found = f"but {len(others)} other weight files: pass the path of one" if others else "and no other weight file"
    raise BundleError(f"{folder} has none of {', '.join(NAMES)}, {found}")


def read_checkpoint(path: Path) -> Contents:
    """Return the tensors of a weights file by name, on the CPU; raise a BundleError if it cannot be read safely."""
    if not path.is_file():
        raise BundleError(f"there is no file {path}")
    if path.name.endswith(".index.json"):
        return _read_sharded(path)
    if path.suffix == ".safetensors":
        return Contents(tables={"": read_tensors(path)})
    if path.suffix == ".npz":
        return Contents(tables={"": _read_numpy(path)})
    if path.suffix in PYTORCH_SUFFIXES:
        return _read_pytorch(path)
    raise BundleError(
        f"{path} is not a checkpoint: its name must end in .safetensors, .npz, {', '.join(PYTORCH_SUFFIXES)}"
    )


def _read_sharded(index: Path) -> Contents:
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise BundleError(f"{index} does not list the files with the weights: {error}") from None
    tensors: dict[str, Tensor] = {}
    unread: set[str] = set()
    for name in sorted(names, key=str):
        if not isinstance(name, str) or Path(name).name != name or name.endswith(".index.json"):
            raise BundleError(f"{index} lists {name!r}, which is not a weight file in the same folder")
        part = read_checkpoint(index.parent / name)
        tensors |= part.tables.get("", {})
        unread |= set(part.unread)
    return Contents(tables={"": tensors}, unread=tuple(sorted(unread)))


def _read_numpy(path: Path) -> dict[str, Tensor]:
    _check_zip(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            decoded = {name: _decode_bfloat16(arrays[name]) for name in arrays.files}
            return {name: torch.from_numpy(array) for name, array in decoded.items() if array.dtype.kind in "fiubc"}
    except (*UNREADABLE, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise BundleError(f"{path} was not loaded: it contains objects, and loading them could run code") from None
        raise BundleError(unreadable(path, error)) from None


def _decode_bfloat16(array: np.ndarray) -> np.ndarray:
    # JAX stores bfloat16 as untyped two-byte values.
    if array.dtype == np.dtype("V2"):
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array


def _read_pytorch(path: Path) -> Contents:
    if zipfile.is_zipfile(path):
        _check_zip(path)
    content, unread = load_pickled(path)
    tables = find_state_dicts(content)
    keys = tuple(map(str, content)) if isinstance(content, Mapping) else ()
    if not tables:
        other = (
            "an object of an unknown class"
            if isinstance(content, Placeholder | type)
            else f"of type {type(content).__name__}"
        )
        kind = f"a dict with keys {', '.join(keys[:5])}" if keys else other
        raise BundleError(f"{path} contains no named weights: it is {kind}")
    return Contents(tables=tables, unread=unread, keys=keys)


def _check_zip(path: Path) -> None:
    """Raise a BundleError if the archive would decompress to more than the main memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BundleError(unreadable(path, error)) from None
    if size > main_memory():
        raise BundleError(f"{path} was not loaded: it would take {size / 1e9:,.0f} GB, more than this machine's memory")


def find_state_dicts(content: Any) -> dict[str, dict[str, Tensor]]:
    """Return every state dict nested in a loaded object by its path, including those of pickled modules."""
    tables: dict[str, dict[str, Tensor]] = {}
    seen: set[int] = set()
    queue: list[tuple[str, Any]] = [("", content)]
    for location, node in queue:
        if id(node) in seen or location.count("/") > MAX_DEPTH:
            continue
        seen.add(id(node))
        if isinstance(node, Placeholder) and is_module(node):
            tensors, inner = module_state_dict(node), {}
        elif isinstance(node, Mapping):
            tensors = {str(name): value for name, value in node.items() if isinstance(value, Tensor)}
            inner = dict(node)
            if isinstance(node, Placeholder) and isinstance(node.state, Mapping):
                inner |= node.state
        else:
            tensors, inner = {}, dict(enumerate(node)) if isinstance(node, list | tuple) else {}
        if any(tensor.ndim > 0 for tensor in tensors.values()):
            tables[location] = tensors
        queue += [
            (f"{location}/{name}" if location else str(name), value)
            for name, value in inner.items()
            if isinstance(value, Mapping | list | tuple)
        ]
    return tables


def is_module(saved: Placeholder) -> bool:
    """Return whether a placeholder has the state of a `torch.nn.Module`."""
    return isinstance(saved.state, Mapping) and {"_parameters", "_modules"} <= saved.state.keys()


def module_state_dict(module: Placeholder) -> dict[str, Tensor]:
    """Return the state dict of a pickled module, without its class."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    queue = [("", module)]
    for prefix, part in queue:
        if id(part) in seen:
            continue
        seen.add(id(part))
        non_persistent = part.state.get("_non_persistent_buffers_set")
        non_persistent = non_persistent if isinstance(non_persistent, set) else set()
        for kind in ("_parameters", "_buffers"):
            for name, value in _items(part.state.get(kind)):
                if isinstance(value, Tensor) and name not in non_persistent:
                    tensors[f"{prefix}{name}"] = value
        queue += [
            (f"{prefix}{name}.", child)
            for name, child in _items(part.state.get("_modules"))
            if isinstance(child, Placeholder) and is_module(child)
        ]
    return tensors


def _items(table: Any) -> list[tuple[Any, Any]]:
    return list(table.items()) if isinstance(table, Mapping) else []
