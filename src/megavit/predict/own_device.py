"""On which device one of several processes predicts."""

from megavit.runtime.ranks import ranks


def own_device(device: str) -> str:
    """`device`, or of several GPUs the one that is this process's.

    Raises:
        ConfigError: as `ranks`.
    """
    here = ranks()
    if device not in ("auto", "cuda") or not here.many:
        return device
    import torch

    return f"cuda:{here.local}" if torch.cuda.is_available() else device
