"""Checkpoints of any library as tensors by name: safetensors, PyTorch's own, NumPy's .npz. Nothing is executed."""

import json
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megavit.errors import BundleError
from megavit.runtime.memory import main_memory
from megavit.weights.tensors import read_tensors, unreadable

# In a folder, the first of these that is there; an index names the files of a checkpoint in parts.
NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)
PYTORCH = (".pt", ".pth", ".bin", ".ckpt", ".tar")
# What training scripts put the weights under, beside optimiser and epoch; averaged weights first, as a run ships them.
WRAPPERS = ("model_ema", "state_dict_ema", "ema", "teacher", "state_dict", "model_state_dict", "model", "module", "net")
# What wrappers of a model put before each name.
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder_q.", "student.", "teacher.")


def find_checkpoint(folder: Path) -> Path:
    """The file of weights in a folder as model hubs lay it out.

    Raises:
        BundleError: naming what was looked for.
    """
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    others = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".npz", *PYTORCH)]
    if len(others) == 1:
        return others[0]
    found = f"{len(others)} other files of weights: name the one" if others else "no other file of weights"
    raise BundleError(f"{folder} has no {NAMES[0]}, nor {', '.join(NAMES[1:])}, and {found}")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, on the CPU, by the names that their library gave them.

    Raises:
        BundleError: when the file is missing, damaged, of a kind that is not known, or would run code when loaded.
    """
    if not path.is_file():
        raise BundleError(f"there is no file {path}")
    if path.name.endswith(".index.json"):
        return _in_parts(path)
    if path.suffix == ".safetensors":
        return read_tensors(path)
    if path.suffix == ".npz":
        return _numpy(path)
    if path.suffix in PYTORCH:
        return _pytorch(path)
    raise BundleError(f"{path} is no checkpoint: it must end in .safetensors, .npz, {', '.join(PYTORCH)}")


def _in_parts(index: Path) -> dict[str, Tensor]:
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BundleError(f"{index} does not say which files hold the weights: {error}") from None
    tensors: dict[str, Tensor] = {}
    for name in sorted(names):
        if not isinstance(name, str) or Path(name).name != name:
            raise BundleError(f"{index} lists {name!r}, which is not a file beside it")
        tensors |= read_checkpoint(index.parent / name)
    return tensors


def _numpy(path: Path) -> dict[str, Tensor]:
    _check_zip(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(_plain(arrays[name])) for name in arrays.files}
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise BundleError(f"{path} is not opened: it holds objects, and loading them could run code") from None
        raise BundleError(unreadable(path, error)) from None


def _plain(array: np.ndarray) -> np.ndarray:
    # JAX writes bfloat16 as two bytes without a type.
    if array.dtype == np.dtype("V2"):
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array


def _pytorch(path: Path) -> dict[str, Tensor]:
    if zipfile.is_zipfile(path):
        _check_zip(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how the file was pickled; what matters is an error below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it asks for {wanted[1]}" if wanted else "it is damaged, or holds more than tensors"
        raise BundleError(
            f"{path} is not opened: {what}, and loading it could run code of whoever wrote it. Ask for the weights "
            "as .safetensors, or save them again where you trust the file: torch.save(model.state_dict(), FILE)"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise BundleError(unreadable(path, error)) from None
    return state_dict(content, str(path))


def _check_zip(path: Path) -> None:
    """Refuse what would inflate beyond the machine's memory, before it does."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
    except (OSError, zipfile.BadZipFile) as error:
        raise BundleError(unreadable(path, error)) from None
    if size > main_memory():
        raise BundleError(
            f"{path} is not opened: it says that it holds {size / 1e9:,.0f} GB, more than there is memory"
        )


def state_dict(content: Any, where: str) -> dict[str, Tensor]:
    """The tensors among what a training script saved: the weights, out of their wrappers.

    Raises:
        BundleError: when there are none.
    """
    while isinstance(content, Mapping) and not _has_tensors(content):
        inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        content = inner
    items = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): value for name, value in items if isinstance(value, Tensor)}
    if not tensors:
        kind = f"a table of {', '.join(map(str, list(content)[:5]))}" if isinstance(content, Mapping) else type(content)
        raise BundleError(f"{where} holds no weights by name: it is {kind}")
    return without_prefix(tensors)


def _has_tensors(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) and value.ndim > 0 for value in content.values())


def without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same without what a wrapper put before every name."""
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
