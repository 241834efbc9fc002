"""Read files of `torch.save` with PyTorch's weights-only loader, without importing or calling anything they name.

Names that the loader does not allow, as training scripts save more than weights, are loaded as inert `Placeholder`s.
"""

import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from pathlib import Path
from typing import Any, BinaryIO

import torch

from megavit.errors import BundleError
from megavit.weights.bundle.safetensors_io import unreadable

# Exceptions that reading a damaged or malicious file can raise.
UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    ImportError,
    struct.error,
    zipfile.BadZipFile,
)
# Modules that PyTorch's weights-only loader always rejects.
BLOCKED = ("os", "posix", "nt", "sys")
# Names that the loader accepts; its own check for others does not cover files from before PyTorch 1.6.
ALLOWED_NAMES = re.compile(
    r"torch\.(\w*Storage|_utils\._rebuild\w+|Size|Tensor|device|nn\.parameter\.Parameter)|collections\.(OrderedDict|Counter)"
    r"|_codecs\.encode|builtins\.(set|bytearray|complex)"
)
ADVICE = (
    "Ask for the weights as .safetensors, or save them again if you trust the file: "
    "torch.save(model.state_dict(), FILE)"
)


class _EqualsDict(type):
    """A metaclass of placeholders that pass PyTorch's check for a pickled dictionary."""

    def __eq__(cls, other: object) -> bool:
        return other is dict or other is cls

    __hash__ = type.__hash__


class Placeholder(dict[Any, Any], metaclass=_EqualsDict):
    """An inert stand-in for a pickled object of unknown class, with the object's pickled `state`, if any."""

    state: Any = None

    def __new__(cls, *_: Any) -> "Placeholder":
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


def load_pickled(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Return a file's content and the names replaced by placeholders; raise a BundleError if it cannot be loaded."""
    _refuse_programs(path)
    unknown: tuple[str, ...] = ()
    try:
        unknown = tuple(sorted(unknown_names(path)))
        with warnings.catch_warnings(), torch.serialization.safe_globals([(Placeholder, name) for name in unknown]):
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise BundleError(_refusal(path, unknown)) from None
    except UNREADABLE as error:
        if any(name.startswith("torch.distributed") for name in unknown):
            raise BundleError(
                f"{path} contains tensors that are sharded over processes (DTensor): gather each with "
                "full_tensor() where they were trained, and save the full tensors"
            ) from None
        raise BundleError(unreadable(path, _summarize(error))) from None
    return content, unknown


def unknown_names(path: Path) -> set[str]:
    """Return the names of classes and functions in a file that PyTorch does not allow by default."""
    if zipfile.is_zipfile(path):
        return set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    with path.open("rb") as file:
        # The legacy format has four pickles: a magic number, the protocol, the system and the object.
        return {name for _ in range(4) for name in _names_in(file)}


def _names_in(file: BinaryIO) -> set[str]:
    found = set()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "GLOBAL":
                module, name = str(argument).split(" ", 1)
                # Python 2's names
                module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
                found |= set() if ALLOWED_NAMES.fullmatch(f"{module}.{name}") else {f"{module}.{name}"}
    except ValueError:  # torch.load reports invalid pickles
        return found
    return found


def _refuse_programs(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BundleError(unreadable(path, _summarize(error))) from None
    if "constants.pkl" in names:
        raise BundleError(
            f"{path} is a TorchScript file, a program with its weights, and megavit does not run programs. If you "
            "trust it, save only the weights: torch.save(torch.jit.load(FILE).state_dict(), NEW)"
        )
    if "archive_format" in names:
        raise BundleError(
            f"{path} is an exported program of PyTorch, and megavit does not run programs. If you trust it, save "
            "only the weights: torch.save(torch.export.load(FILE).state_dict, NEW)"
        )


def _refusal(path: Path, unknown: tuple[str, ...]) -> str:
    blocked = [name for name in unknown if name.partition(".")[0] in BLOCKED]
    what = f"it refers to {', '.join(blocked)}" if blocked else "it is damaged, or contains more than data"
    return f"{path} was not loaded: {what}, and loading it unsafely could run code of whoever wrote it. {ADVICE}"


def _summarize(error: BaseException) -> str:
    first = str(error).partition("\n")[0][:200]
    # PyTorch's advice to disable `weights_only` is left out.
    return type(error).__name__ if "weights_only" in first or not first else f"{type(error).__name__}: {first}"
