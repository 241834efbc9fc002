"""Unpack a backbone that is inside this package: a bundle whose matrices are rounded to 6 bits."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from megavit.runtime.storage import new_folder, writing
from megavit.weights.bundle.bundle import WEIGHTS
from megavit.weights.bundle.safetensors_io import read_tensors, write_tensors

FOLDER = Path(__file__).parent / "files"
PACKED, CARD_NAME = "packed.safetensors", "CARD.md"
# After the name of a matrix, those of its codes, four in three bytes, of the factors of its groups, and of its shape.
CODES, SCALES, SHAPE = ".codes", ".scales", ".shape"
# Weights with a factor of their own; the codes are from -LARGEST to LARGEST, stored with ZERO added.
GROUP, LARGEST, ZERO = 64, 31, 32
# Smaller matrices, and those outside of the layers, are kept in float16.
LAYERS, SMALLEST = ".layers.", 2**14


def pack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the large matrices of the layers in 6 bits a weight, and the other tensors in float16."""
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or LAYERS not in name or tensor.numel() < SMALLEST or tensor.numel() % GROUP:
            packed[name] = tensor.half()
            continue
        groups = tensor.reshape(-1, GROUP)
        scales = (groups.abs().amax(dim=1) / LARGEST).half()
        steps = groups / scales.float().clamp_min(torch.finfo(torch.float16).tiny)[:, None]
        first, second, third, fourth = (steps.round().clamp(-LARGEST, LARGEST).int() + ZERO).view(-1, 4).unbind(1)
        words = first | second << 6 | third << 12 | fourth << 18
        packed[name + CODES] = torch.stack([words >> shift & 255 for shift in (0, 8, 16)], dim=1).to(torch.uint8)
        packed[name + SCALES] = scales
        packed[name + SHAPE] = torch.tensor(tensor.shape)
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that `pack` was given, rounded, in float32."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in packed.items():
        matrix = name.removesuffix(CODES)
        if matrix != name:
            low, middle, high = tensor.int().unbind(1)
            words = low | middle << 8 | high << 16
            codes = torch.stack([words >> shift & 63 for shift in (0, 6, 12, 18)], dim=1)
            groups = (codes - ZERO).view(-1, GROUP) * packed[matrix + SCALES].float()[:, None]
            tensors[matrix] = groups.reshape(packed[matrix + SHAPE].tolist())
        elif not name.endswith((SCALES, SHAPE)):
            tensors[name] = tensor.float()
    return tensors


def unpack_included(name: str, target: Path) -> Path:
    """Write the bundle of the backbone `name` to the new folder `target`, atomically, and return it.

    Raises:
        OutputError: if `target` cannot be written.
    """
    source = FOLDER / name
    with writing(f"the backbone {name}", target), new_folder(target) as folder:
        for path in source.iterdir():
            if path.name != PACKED:
                shutil.copyfile(path, folder / path.name)
        write_tensors(folder / WEIGHTS, unpack(read_tensors(source / PACKED)))
    return target
