"""Number of processors that this process may use: the machine's, or its container's."""

import hashlib
import math
import os
import platform
from itertools import takewhile
from pathlib import Path

from megavit.runtime.cgroup import read_cgroup_limits

_CPU_INFO = Path("/proc/cpuinfo")
_INSTRUCTION_SET = ("model name", "flags", "Features", "CPU implementer", "CPU part")


def get_local_world_size() -> int:
    """Return the number of processes of this run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def available_cpus() -> int:
    """Return the number of CPUs for this process, if the processes of its run on this machine share them equally.

    They are those that the system lets it run on, and at most its container's share of processor time, rounded up.
    """
    quota = read_cgroup_limits().cpus
    bound = allowed_cpus()
    cpus = bound if math.isinf(quota) else min(bound, math.ceil(quota))
    return max(1, cpus // get_local_world_size())


def allowed_cpus() -> int:
    """Return the number of CPUs that the system lets this process run on."""
    if hasattr(os, "sched_getaffinity"):  # on Linux
        return len(os.sched_getaffinity(0))
    import psutil

    # Not on macOS, where no process is bound to processors.
    return len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count() or 1


def describe_processor() -> str:
    """Return the name of the processor and of its instruction set, as far as the system tells."""
    try:
        with _CPU_INFO.open(encoding="utf-8", errors="replace") as file:
            first = [*takewhile(str.strip, file)]  # the lines on the first one
    except OSError:  # not on Linux
        return f"{platform.machine()} {platform.processor()}"
    return " ".join(line.strip() for line in first if line.startswith(_INSTRUCTION_SET))


def is_amd() -> bool:
    """Return whether the processor is AMD's, as far as the system tells."""
    vendor = "AuthenticAMD"
    try:
        return vendor in _CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not on Linux
        return vendor in platform.processor()


def processor_id() -> str:
    """Return a short digest of `describe_processor`, which is equal on machines with the same processor."""
    return hashlib.sha256(describe_processor().encode()).hexdigest()[:16]


def limit_threads() -> None:
    """Reduce PyTorch's threads to the available CPUs, unless OMP_NUM_THREADS says how many there are to be.

    More threads than that only wait for each other, which under a container's quota takes many times as long.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > (cpus := available_cpus()):
        torch.set_num_threads(cpus)
