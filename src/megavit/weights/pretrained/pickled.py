"""What `torch.save` wrote, read by PyTorch's own reader of weights alone, without importing or calling anything named.

Training scripts save more than weights: their arguments, paths, NumPy's numbers, whole objects. PyTorch refuses a file
that names such a thing. Here each name that a file has beyond PyTorch's own list is first looked up, without executing
the file, and then given to the reader as `Placeholder`: a class of ours that can be built of anything and does nothing.
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

# What reading a file that was damaged on purpose can lead to.
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
# Of modules that PyTorch's reader never lets through, whoever allows them.
BLOCKED = ("os", "posix", "nt", "sys")
# In files of PyTorch before 1.6, whose names it does not look up itself: those that it lets through.
ALLOWED_NAMES = re.compile(
    r"torch\.(\w*Storage|_utils\._rebuild\w+|Size|Tensor|device|nn\.parameter\.Parameter)|collections\.(OrderedDict|Counter)"
    r"|_codecs\.encode|builtins\.(set|bytearray|complex)"
)
ADVICE = (
    "Ask for the weights as .safetensors, or save them again where you trust the file: "
    "torch.save(model.state_dict(), FILE)"
)


class _EqualsDict(type):
    """Let placeholders pass where PyTorch's reader asks whether a pickled object is a dictionary."""

    def __eq__(cls, other: object) -> bool:
        return other is dict or other is cls

    __hash__ = type.__hash__


class Placeholder(dict[Any, Any], metaclass=_EqualsDict):
    """An object whose class is not known: it takes whatever a pickle gives to it, and does nothing with it.

    Attributes:
        state: what the object held, where the pickle says so.
    """

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
    """Return what a file of `torch.save` holds, on the CPU, and for which names it has placeholders.

    Raises:
        BundleError: when it is damaged, a program, or asks for what PyTorch never lets through.
    """
    _refuse_programs(path)
    unknown: tuple[str, ...] = ()
    try:
        unknown = tuple(sorted(unknown_names(path)))
        with warnings.catch_warnings(), torch.serialization.safe_globals([(Placeholder, name) for name in unknown]):
            warnings.simplefilter("ignore")  # of how the file was pickled; what matters is an error below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise BundleError(_refusal(path, unknown)) from None
    except UNREADABLE as error:
        if any(name.startswith("torch.distributed") for name in unknown):
            raise BundleError(
                f"{path} holds tensors that are divided over processes (DTensor); gather them where they were "
                "trained, tensor by tensor with full_tensor(), and save the whole"
            ) from None
        raise BundleError(unreadable(path, _brief(error))) from None
    return content, unknown


def unknown_names(path: Path) -> set[str]:
    """Return the names of classes and functions that a file asks for beyond PyTorch's own list; nothing is executed."""
    if zipfile.is_zipfile(path):
        return set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    with path.open("rb") as file:
        # Before version 1.6: a magic number, the protocol, the system, and then what was saved, each pickled.
        return {name for _ in range(4) for name in _names_in(file)}


def _names_in(file: BinaryIO) -> set[str]:
    found = set()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "GLOBAL":
                module, name = str(argument).split(" ", 1)
                # Written as Python 2 called them.
                module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
                found |= set() if ALLOWED_NAMES.fullmatch(f"{module}.{name}") else {f"{module}.{name}"}
    except ValueError:  # no pickle, or one that ends too soon: PyTorch's reader says which
        return found
    return found


def _refuse_programs(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BundleError(unreadable(path, _brief(error))) from None
    if "constants.pkl" in names:
        raise BundleError(
            f"{path} is a TorchScript file, a program with its weights, and programs are not run here. Where you "
            "trust it, save the weights alone: torch.save(torch.jit.load(FILE).state_dict(), NEW)"
        )
    if "archive_format" in names:
        raise BundleError(
            f"{path} is an exported program of PyTorch, and programs are not run here. Where you trust it, save the "
            "weights alone: torch.save(torch.export.load(FILE).state_dict, NEW)"
        )


def _refusal(path: Path, unknown: tuple[str, ...]) -> str:
    blocked = [name for name in unknown if name.partition(".")[0] in BLOCKED]
    what = f"it asks for {', '.join(blocked)}" if blocked else "it is damaged, or has parts that are no data"
    return f"{path} is not opened: {what}, and loading it otherwise could run code of whoever wrote it. {ADVICE}"


def _brief(error: BaseException) -> str:
    """Return the first line of an error, without PyTorch's advice to load without its guard."""
    first = str(error).partition("\n")[0][:200]
    return type(error).__name__ if "weights_only" in first or not first else f"{type(error).__name__}: {first}"
