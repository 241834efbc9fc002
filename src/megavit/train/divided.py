"""Checkpoints of several processes: each writes its own part, and any number of processes can go on with all of them.

PyTorch's distributed checkpoint (DCP) writes and reads the tensors, by name. What seals it is a manifest with the
SHA-256 of every file, written last: without it, there is no checkpoint.
"""

import errno
import hashlib
import json
import secrets
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megavit.config.files import parse_json
from megavit.errors import BundleError, OutputError
from megavit.parallel.rows import by_part, by_process, fused
from megavit.parallel.shards import local, mesh_of, part, whole
from megavit.runtime.ranks import Ranks
from megavit.runtime.storage import sha256, sync_folder, write_file, writing
from megavit.train.optimiser import names_in_order
from megavit.train.state import TrainState

MANIFEST = "manifest.json"


def save_divided(target: Path, state: TrainState) -> None:
    """Write the folder `target`, which is there as a whole or not at all; every process must ask.

    Raises:
        OutputError: in every process, when any of them could not write its part.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    ranks = state.team.ranks
    new = ranks.first(lambda: _begin(target))
    try:
        try:
            writer = dcp.FileSystemWriter(new, single_file_per_rank=True, sync_files=True)
            dcp.save(named_tensors(state), storage_writer=writer)
        except CheckpointException as error:
            raise _why(error, target.parent) from None
        sums = _agreed_sums(new, ranks)
        ranks.first(lambda: _seal(new, target, state, sums))
    finally:
        if ranks.leads:
            shutil.rmtree(new, ignore_errors=True)


def read_numbers(checkpoint: Path) -> dict[str, Any]:
    """What the manifest of such a checkpoint says, unless it is damaged.

    Raises:
        BundleError: when it is.
    """
    path = checkpoint / MANIFEST
    try:
        numbers = parse_json(path.read_bytes(), str(path), BundleError)
    except OSError as error:
        raise BundleError(f"{checkpoint} cannot be used: {error}") from None
    if numbers.pop("sha256", None) != _sum_of(numbers):
        raise BundleError(f"{checkpoint} is not what was written")
    return numbers


def restore_divided(checkpoint: Path, state: TrainState) -> None:
    """Restore a fresh `state` from such a checkpoint, of however many processes; every process must ask.

    Raises:
        BundleError: in every process, when any file is not what was written.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    from megavit.parallel.reader import INDEX, Reader, read_index, shape_of

    ranks = state.team.ranks
    with _agreed(ranks):
        numbers = read_numbers(checkpoint)
        files: dict[str, str] = numbers.pop("files")
        for name in sorted(files)[ranks.rank :: ranks.world]:
            if sha256(checkpoint / name) != files[name]:
                raise BundleError(f"{checkpoint / name} is not what was written")
        index = read_index(checkpoint, set(files) - {INDEX})
        then = numbers.pop("tensor")
        targets = empty_tensors(state, set(index.state_dict_metadata))
        moved = {} if then == state.team.tensor else _moved(targets, state)
        # Rows in the order of another number of processes: each process reads all of them, and keeps its own.
        staged = {name: torch.empty(shape_of(index, name)) for name in moved}
    try:
        with _quiet():
            dcp.load(targets | staged, storage_reader=Reader(checkpoint, index), no_dist=not ranks.many)
    except CheckpointException as error:
        raise BundleError(f"{checkpoint} cannot be used: {_first_fault(error)}") from None
    for name, parts in moved.items():
        _place(by_part(staged[name], parts, then) if then > 1 else staged[name], name, targets[name], state)
    state.take_numbers(numbers)


def restore_from_one(numbers: dict[str, Any], tensors: dict[str, Tensor], state: TrainState) -> None:
    """Restore a fresh divided `state` from what one process wrote (`TrainState.numbers` and `tensors`)."""
    from megavit.model.vit import MegaVit

    with torch.device("meta"):
        plain = MegaVit.from_config(state.model.config)
    order = names_in_order(plain, state.recipe)
    renamed = {_renamed(name, order): tensor for name, tensor in tensors.items()}
    targets = empty_tensors(state, set(renamed))
    for name, target in targets.items():
        _place(renamed[name], name, target, state)
    state.take_numbers(numbers)


def named_tensors(state: TrainState) -> dict[str, Tensor]:
    """All tensors of `state`, those of the optimisers by the names of their parameters."""
    found = dict(state.weights())
    names = {parameter: name for name, parameter in state.model.named_parameters()}
    for optimiser in state.optimisers:
        for parameter, slots in optimiser.state.items():
            found |= {f"optimiser.{names[parameter]}.{slot}": tensor for slot, tensor in slots.items()}
    return found


def empty_tensors(state: TrainState, names: set[str]) -> dict[str, Tensor]:
    """The tensors of a fresh `state`, with those that come to be in training, to be filled in place.

    Raises:
        BundleError: unless they are those of `names`.
    """
    parameters = dict(state.model.named_parameters())
    owners = {id(p): optimiser for optimiser in state.optimisers for g in optimiser.param_groups for p in g["params"]}
    if any(name.startswith("best.") for name in names):
        state.best = {name: torch.zeros_like(tensor) for name, tensor in state.average.state_dict().items()}
    for name in names:
        kind, _, rest = name.partition(".")
        parameter = parameters.get(rest.rpartition(".")[0])
        if kind == "optimiser" and parameter is not None and id(parameter) in owners:
            slot = rest.rpartition(".")[2]
            device = local(parameter).device
            empty = torch.zeros((), device=device) if slot == "step" else torch.zeros_like(parameter)
            owners[id(parameter)].state[parameter][slot] = empty.detach()
    found = named_tensors(state)
    if set(found) != names:
        other = sorted(set(found) ^ names)
        raise BundleError(f"the checkpoint is not of this model: {', '.join(other[:3])}, {len(other)} tensors in all")
    return found


def whole_tensor(name: str, tensor: Tensor, state: TrainState) -> Tensor:
    """All of a tensor of `state`, with its rows in the model's own order; every process must ask."""
    full = whole(local(tensor), tensor)
    parts = fused(name, state.model.config)
    return by_part(full, parts, state.team.tensor) if parts > 1 and state.team.tensor > 1 else full


@torch.no_grad()
def _place(full: Tensor, name: str, target: Tensor, state: TrainState) -> None:
    """Fill `target`, which may be divided, with its part of a whole tensor."""
    parts = fused(_parameter_of(name), state.model.config)
    if parts > 1 and state.team.tensor > 1 and full.ndim:
        full = by_process(full, parts, state.team.tensor)
    local(target).copy_(part(full.to(local(target).device), target) if mesh_of(target) is not None else full)


def _moved(targets: dict[str, Tensor], state: TrainState) -> dict[str, int]:
    """The tensors whose rows are in another order for another number of processes, and their number of parts."""
    config = state.model.config
    parts = {name: fused(_parameter_of(name), config) for name, tensor in targets.items() if tensor.ndim}
    return {name: count for name, count in parts.items() if count > 1}


def _parameter_of(name: str) -> str:
    return name.rpartition(".")[0] if name.startswith("optimiser.") else name


def _renamed(name: str, order: list[list[str]]) -> str:
    """A tensor's name in a state of one process, as of several."""
    kind, _, rest = name.partition(".")
    if kind != "optimiser":
        return name
    number, index, slot = rest.split(".")
    return f"optimiser.{order[int(number)][int(index)]}.{slot}"


def _begin(target: Path) -> Path:
    with writing("a checkpoint", target.parent):
        new = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
        new.mkdir(parents=True)
    return new


def _agreed_sums(new: Path, ranks: Ranks) -> dict[str, str]:
    """The SHA-256 of every file, each by a process of its own as far as there are enough."""
    with _agreed(ranks), writing("a checkpoint", new.parent):
        names = sorted(path.name for path in new.iterdir())
        mine = {name: sha256(new / name) for name in names[ranks.rank :: ranks.world]}
    return {name: digest for found in ranks.every(mine) for name, digest in found.items()}


def _seal(new: Path, target: Path, state: TrainState, files: dict[str, str]) -> None:
    with writing("a checkpoint", target.parent):
        numbers = state.numbers() | {"files": files, "tensor": state.team.tensor}
        write_file(new / MANIFEST, json.dumps(numbers | {"sha256": _sum_of(numbers)}))
        sync_folder(new)
        shutil.rmtree(target, ignore_errors=True)  # of the same step, written by a run that was then set back
        new.rename(target)
        sync_folder(target.parent)


def _sum_of(numbers: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()


@contextmanager
def _agreed(ranks: Ranks) -> Iterator[None]:
    """What goes wrong in one process in here goes wrong in all of them."""
    fault: Exception | None = None
    try:
        yield
    except (BundleError, OutputError) as error:
        fault = error
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        fault = BundleError(f"a checkpoint cannot be used: {error}")
    for other in ranks.every(fault):
        if other is not None:
            raise other


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # One process alone may read what several wrote.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield


def _first_fault(error: Any) -> BaseException:
    """What went wrong first, of a CheckpointException, which is no Exception."""
    return next((fault for fault, _ in error.failures.values()), error)


def _why(error: Any, folder: Path) -> OutputError:
    fault, ranks = _first_fault(error), ", ".join(map(str, error.failures))
    cause = fault
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"the disk is full: process {ranks} could not write its part of a checkpoint to {folder}")
    return OutputError(f"process {ranks} could not write its part of a checkpoint to {folder}: {cause or fault}")
