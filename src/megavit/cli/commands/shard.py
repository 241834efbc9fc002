"""The command `megavit shard`."""

import re
from pathlib import Path

from megavit.cli.options import ImageRoot, Json, LabelColumn, PathColumn, Seed, name_columns
from megavit.errors import ConfigError

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def shard(
    data: str,
    /,
    *,
    out: Path,
    shard_size: str = "256MB",
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    image_root: ImageRoot = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Pack images into WebDataset shards: a few large files that disks and object stores read fast.

    Image files are stored unchanged, in random order, each split in shards of
    its own. The index megavit-shards.json lets train, check, evaluate, predict
    and embed use the folder like any other data set. Files that cannot be read
    are left out and reported.

    For example: megavit shard photos --out photos-shards

    Args:
        data: Labeled images: a folder with one subfolder per class, a table of paths and labels (or numbers), or
            shards.
        out: New folder for the shards and their index.
        shard_size: Target size of each shard, with its unit.
    """
    from megavit.cli.console import counting, print_json, results, show_skipped
    from megavit.data.load import check_outside_data, scan_source
    from megavit.data.shards.write import write_shards
    from megavit.data.sources.demo import DEMO_PREFIX

    seed = 0 if seed is None else seed
    limit = parse_bytes(shard_size)
    if data.startswith(DEMO_PREFIX):
        raise ConfigError(f"{data} has no files to write into shards: pass a folder, a table or shards")
    table = name_columns(data, path_column, label_column, image_root)
    check_outside_data(out, table)
    with counting("checking images") as progress:
        listing, scan = scan_source(table, progress=progress, verify="all")
    with counting("writing shards") as progress:
        index = write_shards(listing, scan, out, size=limit, seed=seed, progress=progress)
    reasons: dict[str, int] = {}
    for _, reason in index.skipped:
        reasons[reason] = reasons.get(reason, 0) + 1
    written = sum(shard.size for shard in index.shards)
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


def parse_bytes(size: str) -> int:
    """Return the number of bytes in a size such as 256MB, 1.5GB or 64MiB.

    Raises:
        ConfigError: for any other format.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?b)?", size.strip().lower())
    if match is None:
        raise ConfigError(f"--shard-size must be a number of bytes such as 256MB or 1GiB, got {size!r}")
    return int(float(match[1]) * _UNITS[match[2] or ""])
