"""Checkpoints of several processes: each writes its own part, and any number of processes can go on with all of them.

PyTorch's distributed checkpoint (DCP) writes and reads the tensors, by name. What seals it is a manifest with the
SHA-256 of every file, written last: without it, there is no checkpoint.
"""

import errno
import hashlib
import json
import secrets
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megavit.config.checks import check_whole
from megavit.config.serialization import parse_json
from megavit.distributed.context import ParallelContext
from megavit.distributed.dtensor_utils import local
from megavit.distributed.fused_qkv_rows import by_part, fused, place
from megavit.errors import BundleError, OutputError
from megavit.runtime.process_group import DistContext
from megavit.runtime.storage import sha256, sync_folder, take_place, write_file, writing
from megavit.train.checkpoint.state_numbers import StateNumbers, parse_numbers
from megavit.train.optim.optimizer import names_in_order
from megavit.train.state import TrainState

MANIFEST = "manifest.json"


def save_divided(target: Path, state: TrainState, then: Callable[[], None], *, wait: bool) -> None:
    """Write the folder `target`, which is there as a whole or not at all; every process must ask.

    The state is copied, and written while the processes go on.

    Args:
        then: what the leader does when it is there.
        wait: until it is.

    Raises:
        OutputError: in every process, when any of them could not write its part, or that of the checkpoint before.
    """
    import torch.distributed.checkpoint as dcp

    parallel = state.parallel
    wait_for_save(parallel)
    new = parallel.dist.run_on_main(lambda: _begin(target))
    writer = dcp.FileSystemWriter(new, single_file_per_rank=True, sync_files=True)
    written = dcp.async_save(named_tensors(state), storage_writer=writer, process_group=parallel.save_group.group)
    assert isinstance(written, Future)  # it answers with more only where it is given a stager
    parallel.pending_save = Future()
    numbers = state.numbers() | {"tensor": parallel.tp_size}
    # A daemon: a process that fails is not to wait for those that it has lost.
    threading.Thread(
        target=_complete,
        args=(written, new, target, numbers, parallel.save_group, then, parallel.pending_save),
        daemon=True,
    ).start()
    if wait:
        wait_for_save(parallel)


def wait_for_save(parallel: ParallelContext) -> None:
    """Wait for the checkpoint that is being written.

    Raises:
        OutputError: as `save_divided`.
    """
    saving, parallel.pending_save = parallel.pending_save, None
    if saving is not None:
        saving.result()


def _complete(
    written: "Future[Any]",
    new: Path,
    target: Path,
    numbers: dict[str, Any],
    dist: DistContext,
    then: Callable[[], None],
    done: "Future[None]",
) -> None:
    """Seal what every process has written; `done` is when it is there, or why not."""
    from torch.distributed.checkpoint.api import CheckpointException

    def seal(sums: dict[str, str]) -> None:
        _seal(new, target, numbers | {"files": sums})
        then()

    fault: Exception | None = None
    try:
        try:
            written.result()
        except CheckpointException as error:
            raise _why(error, target.parent) from None
        sums = _agreed_sums(new, dist)
        dist.run_on_main(lambda: seal(sums))
    except Exception as error:  # noqa: BLE001 - it is raised again by whoever waits
        fault = error
    if dist.is_main_process:
        shutil.rmtree(new, ignore_errors=True)
    if fault is None:
        done.set_result(None)
    else:
        done.set_exception(fault)


def named_tensors(state: TrainState) -> dict[str, Tensor]:
    """All tensors of `state`, those of the optimizers by the names of their parameters."""
    found = dict(state.weights())
    names: dict[Tensor, str] = {parameter: name for name, parameter in state.model.named_parameters()}
    for optimizer in state.optimizers:
        for parameter, slots in optimizer.state.items():
            found |= {f"optimizer.{names[parameter]}.{slot}": tensor for slot, tensor in slots.items()}
    return found


def _begin(target: Path) -> Path:
    with writing("a checkpoint", target.parent):
        new = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
        new.mkdir(parents=True)
    return new


def _agreed_sums(new: Path, dist: DistContext) -> dict[str, str]:
    """The SHA-256 of every file, each by a process of its own as far as there are enough."""
    with agreed(dist), writing("a checkpoint", new.parent):
        names = sorted(path.name for path in new.iterdir())
        mine = {name: sha256(new / name) for name in names[dist.rank :: dist.world_size]}
    return {name: digest for found in dist.all_gather(mine) for name, digest in found.items()}


def _seal(new: Path, target: Path, numbers: dict[str, Any]) -> None:
    with writing("a checkpoint", target.parent):
        write_file(new / MANIFEST, json.dumps(numbers | {"sha256": sum_of(numbers)}))
        sync_folder(new)
        take_place(new, target)
        sync_folder(target.parent)


def sum_of(numbers: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()


@contextmanager
def agreed(dist: DistContext, checkpoint: str = "a checkpoint") -> Iterator[None]:
    """What goes wrong in one process in here, with a checkpoint of this name, goes wrong in all of them."""
    fault: Exception | None = None
    try:
        yield
    except (BundleError, OutputError) as error:
        fault = error
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        fault = BundleError(f"{checkpoint} cannot be used: {error}")
    for other in dist.all_gather(fault):
        if other is not None:
            raise other


def first_fault(error: Any) -> BaseException:
    """What went wrong first, of a CheckpointException, which is no Exception."""
    return next((fault for fault, _ in error.failures.values()), error)


def _why(error: Any, folder: Path) -> OutputError:
    fault, ranks = first_fault(error), ", ".join(map(str, error.failures))
    cause = fault
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"the disk is full: process {ranks} could not write its part of a checkpoint to {folder}")
    return OutputError(f"process {ranks} could not write its part of a checkpoint to {folder}: {cause or fault}")


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

    from megavit.distributed.safe_dcp_reader import INDEX, Reader, read_index, shape_of

    dist = state.parallel.dist
    with agreed(dist, str(checkpoint)):
        numbers = read_numbers(checkpoint)
        files: dict[str, str] = numbers.pop("files")
        for name in sorted(files)[dist.rank :: dist.world_size]:
            if sha256(checkpoint / name) != files[name]:
                raise BundleError(f"{checkpoint / name} is not what was written")
        index = read_index(checkpoint, set(files) - {INDEX})
        then = numbers.pop("tensor")
        check_whole("tensor", then, minimum=1)
        parsed = parse_numbers(numbers, str(checkpoint / MANIFEST), step)
        targets = empty_tensors(state, set(index.state_dict_metadata))
        moved = {} if then == state.parallel.tp_size else _moved(targets, state)

    def load(tensors: dict[str, Tensor]) -> None:
        dcp.load(tensors, storage_reader=Reader(checkpoint, index), no_dist=not dist.is_distributed)

    try:
        with _quiet():
            load({name: tensor for name, tensor in targets.items() if name not in moved})
            # Rows in the order of another number of processes: each process reads all of them, and keeps its own.
            for name, parts in moved.items():
                load({name: (full := torch.empty(shape_of(index, name)))})
                full = by_part(full, parts, then) if then > 1 else full
                place(full, _parameter_of(name), targets[name], state.model.config, state.parallel.tp_size)
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
        place(renamed[name], _parameter_of(name), target, state.model.config, state.parallel.tp_size)
    state.take_numbers(numbers)


def empty_tensors(state: TrainState, names: set[str]) -> dict[str, Tensor]:
    """The tensors of a fresh `state`, with those that come to be in training, to be filled in place.

    Raises:
        BundleError: unless they are those of `names`.
    """
    parameters = dict(state.model.named_parameters())
    owners = {id(p): optimizer for optimizer in state.optimizers for g in optimizer.param_groups for p in g["params"]}
    if any(name.startswith("best.") for name in names):
        state.best = {name: torch.zeros_like(tensor) for name, tensor in state.ema_model.state_dict().items()}
    for name in names:
        kind, _, rest = name.partition(".")
        parameter = parameters.get(rest.rpartition(".")[0])
        if kind == "optimizer" and parameter is not None and id(parameter) in owners:
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
    return name.rpartition(".")[0] if name.startswith("optimizer.") else name


def _renamed(name: str, order: list[list[str]]) -> str:
    """A tensor's name in a state of one process, as of several."""
    kind, _, rest = name.partition(".")
    if kind != "optimizer":
        return name
    number, index, slot = rest.split(".")
    return f"optimizer.{order[int(number)][int(index)]}.{slot}"


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # One process alone may read what several wrote.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield
