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
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from megavit.errors import BundleError, OutputError
from megavit.parallel.team import Team
from megavit.runtime.ranks import Ranks
from megavit.runtime.storage import sha256, sync_folder, take_place, write_file, writing
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

    team = state.team
    assert isinstance(team, Team)  # one process alone writes another kind
    finish_saving(team)
    new = team.ranks.first(lambda: _begin(target))
    writer = dcp.FileSystemWriter(new, single_file_per_rank=True, sync_files=True)
    written = dcp.async_save(named_tensors(state), storage_writer=writer, process_group=team.writers.group)
    assert isinstance(written, Future)  # it answers with more only where it is given a stager
    team.saving = Future()
    numbers = state.numbers() | {"tensor": team.tensor}
    # A daemon: a process that fails is not to wait for those that it has lost.
    threading.Thread(
        target=_complete, args=(written, new, target, numbers, team.writers, then, team.saving), daemon=True
    ).start()
    if wait:
        finish_saving(team)


def finish_saving(team: Team) -> None:
    """Wait for the checkpoint that is being written.

    Raises:
        OutputError: as `save_divided`.
    """
    saving, team.saving = team.saving, None
    if saving is not None:
        saving.result()


def _complete(
    written: "Future[Any]",
    new: Path,
    target: Path,
    numbers: dict[str, Any],
    ranks: Ranks,
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
        sums = _agreed_sums(new, ranks)
        ranks.first(lambda: seal(sums))
    except Exception as error:  # noqa: BLE001 - it is raised again by whoever waits
        fault = error
    if ranks.leads:
        shutil.rmtree(new, ignore_errors=True)
    if fault is None:
        done.set_result(None)
    else:
        done.set_exception(fault)


def named_tensors(state: TrainState) -> dict[str, Tensor]:
    """All tensors of `state`, those of the optimisers by the names of their parameters."""
    found = dict(state.weights())
    names: dict[Tensor, str] = {parameter: name for name, parameter in state.model.named_parameters()}
    for optimiser in state.optimisers:
        for parameter, slots in optimiser.state.items():
            found |= {f"optimiser.{names[parameter]}.{slot}": tensor for slot, tensor in slots.items()}
    return found


def _begin(target: Path) -> Path:
    with writing("a checkpoint", target.parent):
        new = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
        new.mkdir(parents=True)
    return new


def _agreed_sums(new: Path, ranks: Ranks) -> dict[str, str]:
    """The SHA-256 of every file, each by a process of its own as far as there are enough."""
    with agreed(ranks), writing("a checkpoint", new.parent):
        names = sorted(path.name for path in new.iterdir())
        mine = {name: sha256(new / name) for name in names[ranks.rank :: ranks.world]}
    return {name: digest for found in ranks.every(mine) for name, digest in found.items()}


def _seal(new: Path, target: Path, numbers: dict[str, Any]) -> None:
    with writing("a checkpoint", target.parent):
        write_file(new / MANIFEST, json.dumps(numbers | {"sha256": sum_of(numbers)}))
        sync_folder(new)
        take_place(new, target)
        sync_folder(target.parent)


def sum_of(numbers: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()


@contextmanager
def agreed(ranks: Ranks, checkpoint: str = "a checkpoint") -> Iterator[None]:
    """What goes wrong in one process in here, with a checkpoint of this name, goes wrong in all of them."""
    fault: Exception | None = None
    try:
        yield
    except (BundleError, OutputError) as error:
        fault = error
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        fault = BundleError(f"{checkpoint} cannot be used: {error}")
    for other in ranks.every(fault):
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
