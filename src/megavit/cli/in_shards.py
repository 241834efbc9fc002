"""`predict` and `embed` of shards: a part of the answers for each, shared among the processes that torchrun starts."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megavit.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from megavit.data.ranges import Range

Answer = Callable[[Iterable[tuple[str, "Range"]], Path], tuple[int, int]]
"""Writes the answers for images into a new file; gives how many there were, and how many could not be read."""


def shards_among(images: list[str], output: Path | None) -> str | None:
    """The shards to be answered for into `output`; None where there are none, or the answers go to standard output.

    Raises:
        ConfigError: where several processes were started for something else.
    """
    from megavit.predict.share import share

    several = share()[1] > 1
    found = len(images) == 1 and _is_shards(images[0])
    if several and not found:
        raise ConfigError(
            "several processes can share shards, and nothing else: megavit shard DATA --out FOLDER makes them"
        )
    if several and output is None:
        raise ConfigError("give --output FOLDER or FILE: several processes would print their answers all at once")
    return images[0] if found and output is not None else None


def answer_shards(
    source: str, output: Path, kinds: tuple[str, ...], made_of: dict[str, Any], model: Path, answer: Answer
) -> int:
    """Answer for every image of the shards of `source`, those of this process; the result is an exit code.

    Args:
        output: a new folder, which gets a file a shard, or a new file of one of `kinds`; a folder's are of the first.
        made_of: the settings that the answers depend on.
        model: the file of weights that they depend on.
    """
    from megavit.cli.output import counting, notes
    from megavit.data.shards.index import ranges
    from megavit.data.shards.opened import open_shards
    from megavit.predict.parts import Parts
    from megavit.predict.share import restarted, share
    from megavit.runtime.storage import sha256

    if output.suffix not in ("", *kinds):
        raise OutputError(f"answers are written as {' or '.join(kinds)}, or into a folder, not as {output.name!r}")
    rank, world = share()
    if output.suffix and output.exists():
        # A fast process is done before a slow one begins, or before one that was started again.
        if rank or restarted():
            return 0
        raise OutputError(f"{output} is there already; move it away or choose another name")
    with counting("reading shards") as progress:
        folder, index = open_shards(source, progress)
    shards = {shard.name: shard for shard in index.shards if shard.members}
    made_of = {"model": sha256(model), "shards": index.fingerprint()} | made_of
    parts = Parts(output, output.suffix or kinds[0], list(shards), made_of)
    todo = list(parts.missing(rank, world))
    total = failed = 0
    for name in todo:
        if parts.joined and output.exists():
            break  # they were all there, and another process has joined them meanwhile
        images = ((member.name, where) for member, where in ranges(folder, shards[name]))
        with parts.write(name) as part:
            answered, unread = answer(images, part)
        total, failed = total + answered, failed + unread
        if answered != len(shards[name].members):
            raise AssertionError(f"{answered} answers for the {len(shards[name].members)} images of {name}")
    if parts.joined and rank == 0:
        parts.wait()
        parts.join()
    already = len(shards) - len(todo) if world == 1 else 0
    notes.print(
        f"{total:,} answers of {len(todo):,} shards in {output}"
        + (f"; {already:,} shards were answered for before" if already else "")
    )
    if failed:
        notes.print(f"{failed:,} of {total:,} images could not be read", style="yellow")
    # torchrun takes any other code for a crash, and starts all processes again.
    return 2 if failed and world == 1 else 0


def _is_shards(source: str) -> bool:
    from megavit.predict.inputs import STANDARD_INPUT

    if source == STANDARD_INPUT:
        return False
    from megavit.data.shards.opened import is_shards

    return is_shards(source)
