"""Save and load sharded checkpoints with PyTorch's distributed checkpoint (DCP), for any number of processes."""

import errno
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

from megavit.distributed.context import ParallelContext
from megavit.distributed.dtensor_utils import gather_full
from megavit.distributed.fused_qkv_rows import copy_shard_, count_fused, group_by_matrix
from megavit.errors import BundleError, OutputError
from megavit.model.vit import MegaVit
from megavit.runtime.process_group import DistContext
from megavit.runtime.storage import replace_folder, sha256, sync_folder, writing
from megavit.training.checkpoint.manifest import write_manifest
from megavit.training.state import NUMBERS, TrainState
from megavit.weights.bundle.safetensors_io import load_weights


def save_shards(target: Path, state: TrainState, on_done: Callable[[], None], *, wait: bool) -> None:
    """Write the checkpoint `target` in the background from a copy of the state; a collective operation.

    After it is in place the main process calls `on_done`. With `wait` the call blocks until then.

    Raises:
        OutputError: in every process, if any process could not write this or the previous checkpoint.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    parallel, numbers = state.parallel, state.numbers()
    wait_for_save(parallel)
    folder = parallel.dist.run_on_main(lambda: _make_folder(target))
    writer = dcp.FileSystemWriter(folder, single_file_per_rank=True, sync_files=True)
    written = dcp.async_save(state.tensors(), storage_writer=writer, process_group=parallel.save_group.group)
    assert isinstance(written, Future)  # always so without a stager
    pending: Future[None] = Future()

    def complete() -> None:
        dist, fault = parallel.save_group, None
        try:
            try:
                written.result()
            except CheckpointException as error:
                raise _explain_failure(error, target.parent) from None
            digests = _compute_digests(folder, dist)
            dist.run_on_main(lambda: _publish(folder, target, numbers, digests))
            dist.run_on_main(on_done)
        except Exception as error:  # noqa: BLE001 - raised again by `wait_for_save`
            fault = error
        if dist.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
        if fault is None:
            pending.set_result(None)
        else:
            pending.set_exception(fault)

    parallel.pending_save = pending
    # A daemon thread, so that a failing process does not wait for processes that are gone.
    threading.Thread(target=complete, daemon=True).start()
    if wait:
        wait_for_save(parallel)


def wait_for_save(parallel: ParallelContext) -> None:
    """Wait for the checkpoint being written, if any, and raise OutputError if a process could not write its shards."""
    pending, parallel.pending_save = parallel.pending_save, None
    if pending is not None:
        pending.result()


def _make_folder(target: Path) -> Path:
    with writing("a checkpoint", target.parent):
        folder = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
        folder.mkdir(parents=True)
    return folder


def _compute_digests(folder: Path, dist: DistContext) -> dict[str, str]:
    with raise_in_all(dist), writing("a checkpoint", folder.parent):
        names = sorted(path.name for path in folder.iterdir())
        own = {name: sha256(folder / name) for name in names[dist.rank :: dist.world_size]}
    return {name: digest for digests in dist.all_gather(own) for name, digest in digests.items()}


def _publish(folder: Path, target: Path, numbers: dict[str, Any], digests: dict[str, str]) -> None:
    with writing("a checkpoint", target.parent):
        write_manifest(folder, numbers, digests)
        sync_folder(folder)
        replace_folder(folder, target)
        sync_folder(target.parent)


@contextmanager
def raise_in_all(dist: DistContext, checkpoint: str = "a checkpoint") -> Iterator[None]:
    """Raise an error of any process in all of them; I/O and data errors become a BundleError about `checkpoint`."""
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


def _get_first_failure(error: Any) -> BaseException:
    return next((failure for failure, _ in error.failures.values()), error)


def _explain_failure(error: Any, folder: Path) -> OutputError:
    cause = failure = _get_first_failure(error)
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    message = f"process {', '.join(map(str, error.failures))} could not write its part of a checkpoint to {folder}"
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"the disk is full: {message}")
    return OutputError(f"{message}: {cause or failure}")


def read_shapes(checkpoint: Path, files: set[str]) -> dict[str, torch.Size]:
    """Return the shape of each tensor in a checkpoint of `files`, or raise BundleError if its index is damaged."""
    from megavit.distributed.safe_dcp_reader import INDEX, get_shapes, read_index

    return get_shapes(read_index(checkpoint, files - {INDEX}))


def load_shards(
    checkpoint: Path, targets: dict[str, Tensor], state: TrainState, files: set[str], saved_tp_size: int
) -> None:
    """Fill `targets` from a checkpoint of `files`, or raise BundleError if it cannot be read; a collective operation.

    `saved_tp_size` is the tensor-parallel size of the run that wrote it.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    from megavit.distributed.safe_dcp_reader import INDEX, Reader, get_shapes, read_index

    index = read_index(checkpoint, files - {INDEX})
    shapes = get_shapes(index)
    # Fused rows saved with another tensor-parallel size are read in full, and each process copies its shard.
    reordered = {}
    if saved_tp_size != state.parallel.tp_size:
        reordered = {name: _count_fused(name, state) for name, shape in shapes.items() if shape}

    def load(tensors: dict[str, Tensor]) -> None:
        dcp.load(tensors, storage_reader=Reader(checkpoint, index), no_dist=not state.parallel.dist.is_distributed)

    with warnings.catch_warnings():
        # A single process may read a distributed checkpoint.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        try:
            load({name: tensor for name, tensor in targets.items() if reordered.get(name, 1) == 1})
            for name, fused in reordered.items():
                if fused > 1:
                    load({name: (full := torch.empty(shapes[name]))})
                    full = group_by_matrix(full, fused, saved_tp_size) if saved_tp_size > 1 else full
                    copy_full_(targets[name], full, name, state)
        except CheckpointException as error:
            raise BundleError(f"{checkpoint} cannot be used: {_get_first_failure(error)}") from None


def copy_full_(target: Tensor, full: Tensor, name: str, state: TrainState) -> None:
    """Copy this process's shard of the tensor `full` into `target`, the tensor called `name` of `state`, in place."""
    copy_shard_(target, full, _count_fused(name, state), state.parallel.tp_size)


def _count_fused(name: str, state: TrainState) -> int:
    parameter = name.rpartition(".")[0] if name.startswith("optimizer.") else name
    return count_fused(parameter, state.model.config)


def gather_full_state(state: TrainState) -> TrainState:
    """Return `state` unsharded and without optimizers in the main process, else unchanged; a collective operation."""
    is_main, device = state.parallel.dist.is_main_process, next(state.model.parameters()).device
    best: dict[str, Tensor] = {}
    for name, tensor in state.best.items():
        full, fused = gather_full(tensor), _count_fused(name, state)
        if is_main:
            tp_size = state.parallel.tp_size
            best[name] = (group_by_matrix(full, fused, tp_size) if fused > 1 and tp_size > 1 else full).detach().cpu()
    if not is_main:
        return state
    with torch.device("meta"):
        model = MegaVit.from_config(state.model.config)
    load_weights(model, best, "the run")
    model = model.to(device).requires_grad_()
    full_state = TrainState(model=model, ema_model=model, optimizers=[], best=model.state_dict(), history=state.history)
    for name in NUMBERS:
        setattr(full_state, name, getattr(state, name))
    return full_state
