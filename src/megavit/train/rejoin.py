"""Going on with a checkpoint of several processes, in however many, and with one of one process in several."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megavit.config.checks import check_whole
from megavit.config.files import parse_json
from megavit.errors import BundleError
from megavit.parallel.rows import by_part, fused, place
from megavit.parallel.shards import local
from megavit.runtime.storage import sha256
from megavit.train.divided import MANIFEST, agreed, first_fault, named_tensors, sum_of
from megavit.train.optimiser import names_in_order
from megavit.train.state import TrainState
from megavit.train.state_numbers import StateNumbers, parse_numbers


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
    if numbers.pop("sha256", None) != sum_of(numbers):
        raise BundleError(f"{checkpoint} is not what was written")
    return numbers


def restore_divided(checkpoint: Path, state: TrainState, step: int) -> None:
    """Restore a fresh `state` from such a checkpoint of a step, of however many processes; every process must ask.

    Raises:
        BundleError: in every process, when any file is not what was written.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    from megavit.parallel.reader import INDEX, Reader, read_index, shape_of

    ranks = state.team.ranks
    with agreed(ranks, str(checkpoint)):
        numbers = read_numbers(checkpoint)
        files: dict[str, str] = numbers.pop("files")
        for name in sorted(files)[ranks.rank :: ranks.world]:
            if sha256(checkpoint / name) != files[name]:
                raise BundleError(f"{checkpoint / name} is not what was written")
        index = read_index(checkpoint, set(files) - {INDEX})
        then = numbers.pop("tensor")
        check_whole("tensor", then, minimum=1)
        parsed = parse_numbers(numbers, str(checkpoint / MANIFEST), step)
        targets = empty_tensors(state, set(index.state_dict_metadata))
        moved = {} if then == state.team.tensor else _moved(targets, state)

    def load(tensors: dict[str, Tensor]) -> None:
        dcp.load(tensors, storage_reader=Reader(checkpoint, index), no_dist=not ranks.many)

    try:
        with _quiet():
            load({name: tensor for name, tensor in targets.items() if name not in moved})
            # Rows in the order of another number of processes: each process reads all of them, and keeps its own.
            for name, parts in moved.items():
                load({name: (full := torch.empty(shape_of(index, name)))})
                full = by_part(full, parts, then) if then > 1 else full
                place(full, _parameter_of(name), targets[name], state.model.config, state.team.tensor)
    except CheckpointException as error:
        raise BundleError(f"{checkpoint} cannot be used: {first_fault(error)}") from None
    state.take_numbers(parsed)


def restore_from_one(numbers: StateNumbers, tensors: dict[str, Tensor], state: TrainState) -> None:
    """Restore a fresh divided `state` from what one process wrote (`TrainState.numbers` and `tensors`)."""
    from megavit.model.vit import MegaVit

    with torch.device("meta"):
        plain = MegaVit.from_config(state.model.config)
    order = names_in_order(plain, state.recipe)
    renamed = {_renamed(name, order): tensor for name, tensor in tensors.items()}
    targets = empty_tensors(state, set(renamed))
    for name, target in targets.items():
        place(renamed[name], _parameter_of(name), target, state.model.config, state.team.tensor)
    state.take_numbers(numbers)


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


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # One process alone may read what several wrote.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield
