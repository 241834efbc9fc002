"""Number of processors that this process may use: the machine's, or its container's."""

import math
import os

from megavit.runtime.cgroup import read_cgroup_limits


def get_local_world_size() -> int:
    """Return the number of processes of this run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def available_cpus() -> int:
    """Return the number of CPUs for this process, if the processes of its run on this machine share them equally.

    They are those that the system lets it run on, and at most its container's share of processor time, rounded up.
    """
    import psutil

    # Not on macOS, where no process is bound to processors.
    bound = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count() or 1
    quota = read_cgroup_limits().cpus
    cpus = bound if math.isinf(quota) else min(bound, math.ceil(quota))
    return max(1, cpus // get_local_world_size())


def limit_threads() -> None:
    """Reduce PyTorch's threads to the available CPUs, unless OMP_NUM_THREADS says how many there are to be.

    More threads than that only wait for each other, which under a container's quota takes many times as long.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > (cpus := available_cpus()):
        torch.set_num_threads(cpus)
