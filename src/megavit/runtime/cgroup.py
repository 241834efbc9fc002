"""Read the limits on memory and processors of Linux's control groups (cgroup v1 and v2), which containers set."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class CgroupLimits:
    """The tightest limits of this process's control group and those around it; infinite without a limit.

    Attributes:
        memory: bytes that all processes of the group may use.
        free_memory: bytes of them that are not in use; file cache counts as free.
        cpus: processor time per time that passes, such as 1.5.
    """

    memory: float = math.inf
    free_memory: float = math.inf
    cpus: float = math.inf


def read_cgroup_limits(process: Path = PROCESS) -> CgroupLimits:
    """Return the limits of the process with this folder in /proc; what cannot be read is no limit.

    A limit of v2 is `memory.max`, which ends processes, and `memory.high`, above which they hardly run. The soft limit
    of v1 is none: it only matters while other groups lack memory.
    """
    memory, free, cpus = [math.inf], [math.inf], [math.inf]
    for folder, is_v2 in _folders(process):
        if is_v2:
            limit = min(_read_number(folder / "memory.max"), _read_number(folder / "memory.high"))
            used, cache = _read_number(folder / "memory.current"), ("inactive_file", "active_file")
            quota, period = [*_read_words(folder / "cpu.max"), "", ""][:2]
        else:
            stat = _read_table(folder / "memory.stat")
            limit = min(_read_number(folder / "memory.limit_in_bytes"), stat.get("hierarchical_memory_limit", math.inf))
            used, cache = _read_number(folder / "memory.usage_in_bytes"), ("total_inactive_file", "total_active_file")
            quota, period = ("".join(_read_words(folder / f"cpu.cfs_{name}_us")[:1]) for name in ("quota", "period"))
        memory.append(limit)
        if used < math.inf:
            stat = _read_table(folder / "memory.stat")
            free.append(max(0.0, limit - max(0.0, used - sum(stat.get(name, 0.0) for name in cache))))
        if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
            cpus.append(int(quota) / int(period))
    return CgroupLimits(min(memory), min(*free, *memory), min(cpus))


def _folders(process: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the folders of the process's groups, each followed by those around it, and whether they are of v2."""
    paths = {}
    for line in _read_lines(process / "cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        paths |= dict.fromkeys(controllers.split(","), path)  # v2: ""
    for line in _read_lines(process / "mountinfo"):
        mount, _, kind = line.partition(" - ")
        fields, (kind, _, options) = mount.split(), [*kind.split(), "", "", ""][:3]
        controllers = {"cgroup2": {""}, "cgroup": {"memory", "cpu"} & set(options.split(","))}.get(kind, set())
        for controller in controllers & paths.keys():
            root, point = fields[3], Path(fields[4].replace("\\040", " "))
            path = PurePosixPath(paths[controller])
            # A container sees a part of the tree; its own group is then the top of what is mounted.
            parts = path.relative_to(root).parts if path.is_relative_to(root) else ()
            for length in range(len(parts), -1, -1):
                yield point.joinpath(*parts[:length]), kind == "cgroup2"


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _read_words(path: Path) -> list[str]:
    return " ".join(_read_lines(path)).split()


def _read_number(path: Path) -> float:
    """Return the number in a file; infinity for "max", and for a file that is missing or damaged."""
    words = _read_words(path)
    return int(words[0]) if words and words[0].isdecimal() else math.inf


def _read_table(path: Path) -> dict[str, float]:
    rows = (line.split() for line in _read_lines(path))
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}
