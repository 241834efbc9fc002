"""Several .npz files as one, with little more of them in memory than one of them."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def join_arrays(parts: Sequence[Path], whole: Path) -> None:
    """Write the new .npz `whole`: each array is the parts' of that name, one after the other.

    All parts have the same arrays, alike but for their first dimension and the length of texts.
    """
    first, *_ = shapes = [_shapes(part) for part in parts]
    with zipfile.ZipFile(whole, "x", zipfile.ZIP_STORED) as archive:
        for name in first:
            dtype = np.result_type(*(found[name][1] for found in shapes))
            rows = sum(found[name][0][0] for found in shapes)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                header = {"descr": dtype.str, "fortran_order": False, "shape": (rows, *first[name][0][1:])}
                np.lib.format.write_array_header_2_0(file, header)
                for part in parts:
                    with np.load(part, allow_pickle=False) as arrays:
                        file.write(np.ascontiguousarray(arrays[name], dtype).tobytes())


def _shapes(part: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    with np.load(part, allow_pickle=False) as arrays:
        return {name: (arrays[name].shape, arrays[name].dtype) for name in arrays.files}
