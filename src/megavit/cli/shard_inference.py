"""`predict` and `embed` of shards: a part of the answers for each, shared among processes."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megavit.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from megavit.data.byte_range import ByteRange
    from megavit.data.shards.index import Damaged


Answer = Callable[[Iterable[tuple[str, "ByteRange | Damaged"]], Path], tuple[int, int]]
"""Writes the answers for images into a new file; gives how many there were, and how many could not be read."""

MAX_NPROC = 1024


def shards_among(images: list[str], output: Path | None, kinds: tuple[str, ...], nproc: int | None) -> str | None:
    """The shards to be answered for into `output`; None where there are none, or the answers go to standard output.

    Raises:
        ConfigError: where several processes were started, or asked for, for something else.
        OutputError: where the answers cannot be written so.
    """
    from megavit.config.checks import check_range
    from megavit.runtime.process_group import get_dist_context

    check_range("nproc", 1 if nproc is None else nproc, 1, MAX_NPROC)
    several = get_dist_context().is_distributed or (nproc or 1) > 1
    found = len(images) == 1 and _is_shards(images[0])
    if several and not found:
        raise ConfigError(
            "several processes can share shards, and nothing else: megavit shard DATA --out FOLDER makes them"
        )
    if several and output is None:
        raise ConfigError("give --out FOLDER or FILE: several processes would print their answers all at once")
    if not found or output is None:
        return None
    if output.suffix not in ("", *kinds):
        raise OutputError(f"answers are written as {' or '.join(kinds)}, or into a folder, not as {output.name!r}")
    return images[0]


def local_device(device: str) -> str:
    """Return `device`, or where several processes share the GPUs, the one of this process.

    Raises:
        ConfigError: when torchrun's environment variables are incomplete.
    """
    from megavit.runtime.process_group import get_dist_context

    if device not in ("auto", "cuda") or not (dist := get_dist_context()).is_distributed:
        return device
    import torch

    return f"cuda:{dist.local_rank}" if torch.cuda.is_available() else device


def start_together(nproc: int | None) -> int | None:
    """Have the command that is running done by so many processes; the answer is its exit code.

    None where it is one of them, which then ends with its agent, or needs no other.
    """
    from megavit.runtime.process_group import die_with_parent, get_dist_context

    if get_dist_context().is_distributed:
        die_with_parent()
    if (nproc or 1) == 1 or "WORLD_SIZE" in os.environ:
        return None
    from megavit.cli.launcher import launch

    return launch(nproc or 1, sys.argv[1:], go_on="the same command")


def answer_shards(
    source: str, output: Path, kinds: tuple[str, ...], made_of: dict[str, Any], model: Sequence[Path], answer: Answer
) -> int:
    """Answer for every image of the shards of `source`, those of this process; the result is an exit code.

    Args:
        output: a new folder, which gets a file a shard, or a new file of one of `kinds`; a folder's are of the first.
        made_of: the settings that the answers depend on.
        model: the files that they depend on.
    """
    from megavit.cli.console import counting, notes
    from megavit.cli.launcher import end_with, stopped_elsewhere
    from megavit.data.shards.index import list_contents
    from megavit.data.shards.open import open_shards
    from megavit.predict.sharded_output import ShardedOutput
    from megavit.runtime.process_group import get_dist_context
    from megavit.runtime.storage import sha256

    dist = get_dist_context()
    rank, world = dist.rank, dist.world_size
    if _is_done(output, rank):
        return 0
    with counting("reading shards") as progress:
        folder, index = open_shards(source, progress)
    shards = list_contents(folder, index)
    made_of = {"model": [sha256(path) for path in model], "shards": index.fingerprint()} | made_of
    try:
        parts = ShardedOutput(output, output.suffix or kinds[0], list(shards), made_of)
    except OutputError:
        if rank and _is_done(output, rank):  # the first process has joined the parts and removes them
            return 0
        raise
    if parts.joined and output.exists():  # the parts were joined, and not yet removed, when a process was killed
        parts.remove()
        return 0
    todo = list(parts.missing(rank, world))
    answered = 0
    for name in todo:
        if stopped_elsewhere():
            return 0
        if parts.joined and output.exists():
            break  # they were all there, and the first process has joined them meanwhile
        with parts.write(name) as part:
            images, unread = answer(shards[name], part)
            if images != len(shards[name]):
                raise AssertionError(f"{images} answers for the {len(shards[name])} images of {name}")
            if unread:
                parts.note_unread(name, unread)
        answered += images
    if parts.joined and output.exists():
        parts.remove()
        return 0
    if parts.joined and rank:
        return 0  # the first process joins them, and tells
    mine = parts.shards if parts.joined else parts.shards_of(rank, world)
    total = sum(len(shards[name]) for name in mine)
    if parts.joined:
        if not parts.wait(lambda: stopped_elsewhere() or output.exists()):
            return 0
        failed = parts.unread(mine)
        parts.join()
    else:
        failed = parts.unread(mine)
        parts.tidy()
    before = 0 if parts.joined and world > 1 else len(mine) - len(todo)
    notes.print(
        f"{answered if before else total:,} answers of {len(mine) - before:,} shards in {output}"
        + (f"; {before:,} shards were answered for before" if before else "")
    )
    if failed:
        notes.print(f"{failed:,} of {total:,} images could not be read", style="yellow")
    if failed and world > 1:
        return end_with(2)
    return 2 if failed else 0


def _is_done(output: Path, rank: int) -> bool:
    """Whether the answers are in the file already, by the processes of this very command.

    Raises:
        OutputError: where something else is there.
    """
    from megavit.cli.launcher import refused_before
    from megavit.predict.sharded_output import is_merged
    from megavit.runtime.process_group import get_dist_context

    if not output.suffix or not output.exists() or (rank == 0 and is_merged(output)):
        return False
    # A fast process is done before a slow one begins, or before one that was started again.
    if (rank or get_dist_context().restarts) and not refused_before(now=False):
        return True
    refused_before(now=True)
    raise OutputError(f"{output} is there already; move it away or choose another name")


def _is_shards(source: str) -> bool:
    from megavit.predict.input_sources import names_shards
    from megavit.predict.standard_input import STANDARD_INPUT

    return source not in ("", STANDARD_INPUT) and names_shards(source)


def check_images(images: Sequence[str], verb: str) -> None:
    """Raise a ConfigError unless there are names of images, none of which is an option that does not exist."""
    from megavit.predict.standard_input import STANDARD_INPUT

    if not images:
        raise ConfigError(f"IMAGES are missing: megavit {verb} BUNDLE photo.jpg, a folder, or - for standard input")
    for name in images:
        if name.startswith("-") and name != STANDARD_INPUT and not os.path.exists(name):  # noqa: PTH110 - raises nothing
            raise ConfigError(f"there is no option {name}; megavit {verb} --help lists what there is")
