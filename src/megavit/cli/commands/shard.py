"""`megavit shard`."""

import re
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from megavit.errors import ConfigError, OutputError

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def shard(
    data: Annotated[str, Parameter(help="Folder of class folders, table of path and label(s) or score, or shards.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="New folder for the shards and their index.")],
    size: Annotated[str, Parameter(help="Of a shard, such as 256MB.")] = "256MB",
    seed: Annotated[int, Parameter(help="Of the order in which images lie in the shards.")] = 0,
    json: Annotated[bool, Parameter(help="Print the result as JSON.", negative="")] = False,
) -> None:
    """Write images into WebDataset shards: a few large files, which disks and stores read fast.

    The images' files go in as they are, shuffled, those of each split into
    shards of their own. megavit-shards.json says where each lies, so that
    train, check, evaluate, predict and embed take the folder like any other
    data. What cannot be read is left out and told.

    For example: megavit shard photos --out photos-shards
    """
    from megavit.cli.console import counting, print_json, results, show_skipped
    from megavit.config.checks import check_whole
    from megavit.data.load import survey
    from megavit.data.shards.write import write_shards
    from megavit.data.sources.demo import PREFIX

    check_whole("seed", seed, minimum=0)
    limit = bytes_of(size)
    if data.startswith(PREFIX):
        raise ConfigError(f"{data} has no files to write into shards; give a folder, a table or shards")
    if Path(data).is_dir() and out.resolve().is_relative_to(Path(data).resolve()):
        raise OutputError(f"{out} lies within the data, {data}; choose a place outside with --out")
    with counting("checking images") as progress:
        listing, found = survey(data, progress=progress, verify="all")
    with counting("writing shards") as progress:
        index = write_shards(listing, found, out, size=limit, seed=seed, progress=progress)
    reasons: dict[str, int] = {}
    for _, reason in index.skipped:
        reasons[reason] = reasons.get(reason, 0) + 1
    written = sum(one.size for one in index.shards)
    if json:
        print_json(
            {
                "images": index.images,
                "classes": len(index.classes),
                "shards": len(index.shards),
                "bytes": written,
                "skipped": reasons,
                "fingerprint": index.fingerprint(),
                "out": str(out),
            }
        )
        return
    show_skipped(reasons)
    shards = "1 shard" if len(index.shards) == 1 else f"{len(index.shards):,} shards"
    results.print(f"{index.images:,} images in {shards}, {written / 1e6:,.1f} MB, in {out}")


def bytes_of(size: str) -> int:
    """Bytes in a size such as 256MB, 1.5GB or 64MiB.

    Raises:
        ConfigError: for anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?b)?", size.strip().lower())
    if found is None:
        raise ConfigError(f"size must be a number of bytes such as 256MB or 1GiB, got {size!r}")
    return int(float(found[1]) * _UNITS[found[2] or ""])
