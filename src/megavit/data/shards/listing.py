"""List the images of shards by their index, without damaged ones."""

from collections.abc import Sequence
from pathlib import Path

from megavit.config.recipe import OnCorrupt
from megavit.data.byte_range import is_url
from megavit.data.dataset import Skipped
from megavit.data.scan import Candidate, ImageInfo, Listing, Progress
from megavit.data.shards.index import INDEX, Shard, ShardIndex, is_tar, locate_members
from megavit.data.shards.open import open_shards
from megavit.data.shards.verify import ShardFault, Verify, find_size_mismatches, verify
from megavit.data.targets import name_target
from megavit.errors import DataError

UNLABELED = "it has no target in a .cls or .json"
INTACT = "; all of its images are intact"


def list_shards(
    source: str, on_corrupt: OnCorrupt, progress: Progress | None, verified: Verify
) -> tuple[Listing, list[ImageInfo | str]]:
    """Return every image in the index of `source`, and its properties or why it cannot be used.

    Args:
        on_corrupt: "fail" to raise an error for a damaged shard.
        verified: which shards are compared with the index; of the others only the sizes are.

    Raises:
        DataError: if the index is missing or damaged, no image has a target, or as set by `on_corrupt`.
    """
    folder, index = open_shards(source, progress)
    verified_shards = _shards_to_verify(index, verified)
    faults = [*verify(folder, verified_shards, progress)]
    known = {shard.name for shard in verified_shards}
    faults += find_size_mismatches(folder, [shard for shard in index.shards if shard.name not in known])
    if on_corrupt == "fail":
        _raise_if_damaged(source, index, faults)
    damaged = {fault.shard: fault.images or {} for fault in faults}
    candidates: list[Candidate] = []
    infos: list[ImageInfo | str] = []
    for shard in index.shards:
        reasons = damaged.get(shard.name, {})
        for position, (member, location) in enumerate(locate_members(folder, shard)):
            if member.target is None:
                target = ""
                info = UNLABELED
            else:
                target = name_target(member.target, index.classes)
                info = reasons.get(position) or ImageInfo(member.height, member.width, member.channels, member.digest)
            candidates.append(Candidate(member.name, target, shard.split, location))
            infos.append(info)
    skipped = (
        *(Skipped(name, reason) for name, reason in (*index.skipped, *index.damaged)),
        *(Skipped(fault.shard, _describe(fault)) for fault in faults if not fault.images),
        *(Skipped(name, "a shard that is not in the index") for name in _find_unknown_shards(source, index)),
    )
    if all(member.target is None for shard in index.shards for member in shard.members):
        raise DataError(
            f"no image in the shards of {source!r} has a target: each needs a .cls with its class, or a .json with "
            "label, labels or score. To use a tar of class folders, unpack it, then run "
            "megavit shard FOLDER --out SHARDS"
        )
    root = None if is_url(folder) else Path(folder)
    return Listing(root, index.classes, tuple(candidates), skipped, index.target), infos


def _raise_if_damaged(source: str, index: ShardIndex, faults: Sequence[ShardFault]) -> None:
    hint = 'continue without with --on-corrupt skip (on_corrupt = "skip")'
    if faults:
        raise DataError(
            f"{len(faults):,} of the {len(index.shards):,} shards of {source!r} do not match their index: "
            f"{faults[0].shard} is {faults[0].reason}; restore them, or {hint}"
        )
    if index.damaged:
        name, reason = index.damaged[0]
        raise DataError(
            f"{len(index.damaged):,} entries in the shards of {source!r} cannot be used, such as {name!r}: {reason}; "
            f"restore them, or {hint}"
        )


def _shards_to_verify(index: ShardIndex, verified: Verify) -> Sequence[Shard]:
    if verified == "none":
        return ()
    held_out = [shard for shard in index.shards if shard.split in ("val", "test")]
    return held_out if held_out and verified == "held-out" else index.shards


def _describe(fault: ShardFault) -> str:
    if fault.images is None:
        return f"{fault.reason}; unreadable images are replaced by others of the same class"
    return fault.reason + INTACT


def _find_unknown_shards(source: str, index: ShardIndex) -> list[str]:
    folder = Path(source)
    if is_url(source) or not (folder / INDEX).is_file():
        return []
    known = {shard.name for shard in index.shards}
    known |= {name for name, _ in index.damaged}
    return sorted(path.name for path in folder.iterdir() if is_tar(path.name) and path.name not in known)
