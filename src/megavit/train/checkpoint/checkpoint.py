"""Checkpoints: the whole state of a run, in a folder that is complete or not there at all.

FOLDER/step-…/manifest.json       all but the tensors, with the SHA-256 of every other file and of itself
FOLDER/step-…/state.safetensors   the tensors, if one process trained
FOLDER/step-…/__0_0.distcp, …     the tensors, if several did: each writes its shards (`distributed`)

One process does not write the second kind, although it could: PyTorch's distributed checkpoint takes it one and a half
to three times as long (3 MB in 256 tensors: 0.50 s against 0.15 s; 86 MB in 672: 2.0 s against 1.3 s, on two cores).
Any number of processes can resume from either.
"""

import shutil
from pathlib import Path

from megavit.errors import BundleError, OutputError
from megavit.runtime.storage import new_folder, sha256, writing
from megavit.train.checkpoint.distributed import copy_full_, load_shards, raise_in_all, read_shapes, save_shards
from megavit.train.checkpoint.manifest import read_manifest, write_manifest
from megavit.train.state import TrainState
from megavit.weights.bundle.safetensors_io import read_tensors, write_tensors

KEEP_NEWEST = 2
# Besides, one is kept of every so many steps, for a run that diverges to roll back to: the newest that is MARGIN steps
# older than what shows in the loss, since trouble begins before. PaLM's went back 100 (arXiv 2204.02311, section 5.1).
ROLLBACK_EVERY, MARGIN = 500, 100
TENSORS = "state.safetensors"


def save_checkpoint(folder: Path, state: TrainState, *, wait: bool = True) -> None:
    """Write `folder/step-…`, and remove the checkpoints that are no longer needed; a collective.

    Args:
        wait: until it is there. Several processes may train on while it is written; its errors are then raised by
            the next call.

    Raises:
        OutputError: when it cannot be written; the earlier checkpoints are then as they were.
    """
    target = folder / f"step-{state.step:09d}"
    try:
        if state.parallel.dist.is_distributed:
            save_shards(target, state, lambda: _prune(folder), wait=wait)
        else:
            with writing("a checkpoint", folder), new_folder(target) as new:
                write_tensors(new / TENSORS, state.tensors())
                write_manifest(new, state.numbers(), {TENSORS: sha256(new / TENSORS)})
            _prune(folder)
    except OutputError as error:
        last = list_checkpoints(folder)
        rest = f"The run can be resumed from step {get_step(last[0])}." if last else "Nothing was saved yet."
        raise OutputError(f"{error}. {rest}") from error


def load_checkpoint(folder: Path, state: TrainState) -> list[str]:
    """Restore `state` from the newest intact checkpoint, and return what is wrong with each newer one; a collective.

    Raises:
        BundleError: when there is none.
    """
    faults: list[str] = []
    for checkpoint in state.parallel.dist.run_on_main(lambda: list_checkpoints(folder)):
        try:
            _restore(checkpoint, state)
        except BundleError as error:
            faults.append(str(error))
        else:
            return faults
    listed = "".join(f"\n  {fault}" for fault in faults)
    raise BundleError(f"there is no checkpoint in {folder} to resume from; start the training again{listed}")


def remove_incomplete(folder: Path) -> None:
    """Remove what a run that was killed had begun to write."""
    for rest in folder.glob(".step-*"):
        shutil.rmtree(rest, ignore_errors=True)


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, the newest first."""
    return sorted(folder.glob("step-*"), key=get_step, reverse=True)


def list_rollback_checkpoints(folder: Path, upto: int) -> list[Path]:
    """Return those up to step `upto` that are kept to roll back to, the newest first."""
    steps = {checkpoint: get_step(checkpoint) for checkpoint in list_checkpoints(folder)}
    return [checkpoint for checkpoint, step in steps.items() if step % ROLLBACK_EVERY == 0 and 0 < step <= upto]


def get_step(checkpoint: Path) -> int:
    """Return the step after which a checkpoint was written, by its name; -1 for another folder."""
    number = checkpoint.name.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def _prune(folder: Path) -> None:
    checkpoints = list_checkpoints(folder)
    newest = get_step(checkpoints[0])
    # Of those old enough, the newest is enough; twice the margin, because a run has diverged before it is known to.
    needed = list_rollback_checkpoints(folder, newest)
    superseded = list_rollback_checkpoints(folder, newest - 2 * MARGIN)[1:]
    for old in checkpoints[KEEP_NEWEST:]:
        if old not in needed or old in superseded:
            shutil.rmtree(old, ignore_errors=True)


def _restore(checkpoint: Path, state: TrainState) -> None:
    """Restore `state` from one checkpoint; nothing of it is used unless all of it is intact.

    Raises:
        BundleError: in every process, when it is not.
    """
    dist, saved = state.parallel.dist, {}
    with raise_in_all(dist, str(checkpoint)):
        numbers, digests = read_manifest(checkpoint, get_step(checkpoint))
        for name in sorted(digests)[dist.rank :: dist.world_size]:
            if sha256(checkpoint / name) != digests[name]:
                raise BundleError(f"{checkpoint / name} is not what was written")
        if TENSORS in digests:
            saved = read_tensors(checkpoint / TENSORS)
            shapes = {name: tensor.shape for name, tensor in saved.items()}
        else:
            shapes = read_shapes(checkpoint, set(digests))
        targets = state.make_tensors(shapes)
        if bool(state.best) != (numbers.best_epoch is not None):
            raise BundleError(f"best_epoch is {numbers.best_epoch}, and the best weights are {len(state.best)} tensors")
    if saved:
        for name, target in targets.items():
            copy_full_(target, saved[name], name, state)
    else:
        load_shards(checkpoint, targets, state, set(digests), numbers.tp_size)
    state.take_numbers(numbers)
