"""Read and write safetensors files, and load tensors into a model if all of them fit."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor, nn

from megavit.errors import BundleError
from megavit.runtime.storage import IS_WINDOWS, write_file

ALIGNMENT = 64
"""Bytes at a multiple of which PyTorch's own tensors begin on a CPU."""


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write `tensors` to a safetensors file atomically, with `metadata` in its header."""
    write_file(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file into CPU memory, except on Windows memory-mapped, so that processes share it.

    While the tensors are in use, the file may be replaced or deleted, but not overwritten in place.

    Raises:
        BundleError: if the file is missing or damaged.
    """
    try:
        # Windows would neither replace nor delete a file that is mapped.
        return load(path.read_bytes()) if IS_WINDOWS else load_file(path)
    except (OSError, SafetensorError) as error:
        raise BundleError(unreadable(path, error)) from None


def unreadable(path: Path, error: object) -> str:
    """Return the error message for a file that could not be parsed."""
    return f"{path} cannot be read, as it may be damaged or truncated: copy it again ({error})"


def shape_faults(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Return a line of text for each missing, unexpected or misshapen tensor."""
    return [
        *(f"  {name}: is missing" for name in expected if name not in tensors),
        *(f"  {name}: is not part of this model" for name in tensors if name not in expected),
        *(
            f"  {name}: has shape {tuple(tensors[name].shape)}, expected {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in tensors and tensors[name].shape != tensor.shape
        ),
    ]


def load_weights(model: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Load `tensors` into `model`, which is on the meta device; raise a BundleError that lists all that do not fit."""
    expected = model.state_dict()
    if faults := shape_faults(tensors, expected):
        raise BundleError("\n".join([f"the weights in {where} do not fit the model:", *faults]))
    model.load_state_dict({name: tensor.to(expected[name].dtype) for name, tensor in tensors.items()}, assign=True)


def align_parameters(module: nn.Module) -> None:
    """Copy parameters that do not begin at a multiple of `ALIGNMENT` bytes, as in a file they may begin anywhere.

    The product of one row with a matrix is rounded in another way where the matrix is not aligned, so that the same
    weights would give other last digits in another file.
    """
    for parameter in module.parameters():
        if parameter.data_ptr() % ALIGNMENT:
            parameter.data = parameter.data.clone()
