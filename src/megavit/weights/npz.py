"""Tensors in NumPy's .npz archives, which JAX's models come in."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from megavit.errors import BundleError

UNPACKED_AT_MOST = 100  # times the size of the file; weights hardly shrink, so that more is a trap


def read_npz(path: Path) -> dict[str, Tensor]:
    """The arrays of a .npz archive, on the CPU, by their names. Nothing in it is executed.

    bfloat16, which NumPy has not, is stored as two bytes without a meaning, and read as bfloat16.

    Raises:
        BundleError: when the file is missing, damaged, no archive of arrays of numbers, or unpacks to far too much.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > UNPACKED_AT_MOST * path.stat().st_size:
            raise BundleError(f"{path} would unpack to {unpacked:,} bytes, far more than weights do; it is not read")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _tensor(arrays[name]) for name in arrays.files}
    except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(f"{path} cannot be read as an archive of arrays: {error}") from None


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype == np.dtype("V2"):
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
