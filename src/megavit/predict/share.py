"""Which of several processes this is, as torchrun tells each of them."""

import os

from megavit.errors import ConfigError


def share() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) for a process by itself.

    Raises:
        ConfigError: where the environment says otherwise than torchrun would.
    """
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise ConfigError(f"RANK must be a number below WORLD_SIZE, as torchrun sets them; got {rank!r} and {world!r}")
    return int(rank), int(world)


def restarted() -> bool:
    """Whether torchrun has started its processes again after one of them ended."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")


def own_device(device: str) -> str:
    """`device`, or of several GPUs the one that is this process's."""
    local = os.environ.get("LOCAL_RANK", "")
    if device not in ("auto", "cuda") or not local.isdecimal():
        return device
    import torch

    return f"cuda:{int(local)}" if torch.cuda.is_available() else device
