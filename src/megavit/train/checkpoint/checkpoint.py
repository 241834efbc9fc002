"""Checkpoints: the whole state of a run in a folder that is there as a whole or not at all.

The manifest carries the SHA-256 of the tensors and of itself, because a flipped bit in either loads silently.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from megavit.config.serialization import parse_json
from megavit.errors import BundleError, OutputError
from megavit.runtime.storage import new_folder, sha256, write_file, writing
from megavit.train.checkpoint.state_numbers import parse_numbers
from megavit.train.state import TrainState
from megavit.weights.bundle.safetensors_io import read_tensors, write_tensors

KEPT = 2
# Besides, one is written every so many steps, for a run that diverges to go back to: the newest that is so many steps
# older than what shows in the loss, since trouble begins before. PaLM's went back 100 (arXiv 2204.02311, section 5.1).
LASTING_EVERY, MARGIN = 500, 100
TENSORS, MANIFEST = "state.safetensors", "manifest.json"
# There where several processes wrote it.
INDEX = ".metadata"


def save_checkpoint(folder: Path, state: TrainState, *, wait: bool = True) -> None:
    """Write `folder/step-…` and remove what is neither one of the newest two nor may be gone back to.

    Of several processes, every one must ask.

    Args:
        wait: until it is there. Several processes may train on while it is written; what then goes wrong is the
            next call's error.

    Raises:
        OutputError: when it cannot be written; the earlier checkpoints are then as they were.
    """
    target = folder / f"step-{state.step:09d}"
    try:
        if state.parallel.dist.is_distributed:
            from megavit.train.checkpoint.distributed import save_divided

            save_divided(target, state, lambda: _prune(folder), wait=wait)
        else:
            _save(target, state)
            _prune(folder)
    except OutputError as error:
        last = list_checkpoints(folder)
        rest = f"The run can be resumed from step {get_step(last[0])}." if last else "Nothing was saved yet."
        raise OutputError(f"{error}. {rest}") from error


def load_checkpoint(folder: Path, state: TrainState) -> list[str]:
    """Restore `state` from the newest sound checkpoint; the answer says which newer ones were damaged, and how.

    Raises:
        BundleError: when there is none.
    """
    damaged: list[str] = []
    for checkpoint in state.parallel.dist.run_on_main(lambda: list_checkpoints(folder)):
        try:
            _restore(checkpoint, state)
        except BundleError as error:
            damaged.append(str(error))
        else:
            return damaged
    listed = "".join(f"\n  {fault}" for fault in damaged)
    raise BundleError(f"there is no checkpoint in {folder} to resume from; start the training again{listed}")


def remove_incomplete(folder: Path) -> None:
    """Remove what a run that was killed had begun to write."""
    for rest in folder.glob(".step-*"):
        shutil.rmtree(rest, ignore_errors=True)


def list_checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("step-*"), key=get_step, reverse=True)


def list_rollback_checkpoints(folder: Path, upto: int) -> list[Path]:
    """Those up to step `upto` that are kept to be gone back to, newest first."""
    found = [one for one in list_checkpoints(folder) if get_step(one) % LASTING_EVERY == 0]
    return [one for one in found if 0 < get_step(one) <= upto]


def get_step(checkpoint: Path) -> int:
    """The step after which it was written; -1 for what is none."""
    number = checkpoint.name.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def _prune(folder: Path) -> None:
    found = list_checkpoints(folder)
    newest = get_step(found[0])
    # Of those old enough, the newest is enough; twice the margin, because a run has diverged before it is known to.
    needed, superseded = (
        list_rollback_checkpoints(folder, newest),
        list_rollback_checkpoints(folder, newest - 2 * MARGIN)[1:],
    )
    for old in found[KEPT:]:
        if old not in needed or old in superseded:
            shutil.rmtree(old, ignore_errors=True)


def _save(target: Path, state: TrainState) -> None:
    with writing("a checkpoint", target.parent), new_folder(target) as new:
        write_tensors(new / TENSORS, state.tensors())
        numbers = state.numbers()
        write_file(new / MANIFEST, json.dumps(numbers | {"sha256": _seal(numbers, new / TENSORS)}))


def _seal(numbers: dict[str, Any], tensors: Path) -> str:
    """SHA-256 of both parts of a checkpoint."""
    return hashlib.sha256((json.dumps(numbers, sort_keys=True) + sha256(tensors)).encode()).hexdigest()


def _restore(checkpoint: Path, state: TrainState) -> None:
    manifest = checkpoint / MANIFEST
    try:
        if (checkpoint / INDEX).exists():
            from megavit.train.checkpoint.distributed import restore_divided

            restore_divided(checkpoint, state, get_step(checkpoint))
            return
        numbers = parse_json(manifest.read_bytes(), str(manifest), BundleError)
        if numbers.pop("sha256", None) != _seal(numbers, checkpoint / TENSORS):
            raise BundleError(f"{checkpoint} is not what was written")
        numbers = parse_numbers(numbers, str(manifest), get_step(checkpoint))
        tensors = read_tensors(checkpoint / TENSORS)
        if state.parallel.dist.is_distributed:
            from megavit.train.checkpoint.distributed import restore_from_one

            restore_from_one(numbers, tensors, state)
        else:
            state.restore(numbers, tensors)
    except (OSError, KeyError, TypeError, RuntimeError, ValueError) as error:
        raise BundleError(f"{checkpoint} cannot be used: {error}") from None
