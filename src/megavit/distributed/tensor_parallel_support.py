"""What tensor parallelism needs of a model and makes of it, by its config alone, without importing PyTorch."""

from megavit.config.vit import ViTConfig
from megavit.errors import ConfigError


def check_tensor_parallel(config: ViTConfig, tp_size: int) -> None:
    """Raise ConfigError unless `tp_size` processes can compute a layer of this model together."""
    design = config.design
    if tp_size == 1:
        return
    if design.block == "zeta" or design.attention_out_norm or design.mlp_out_norm:
        raise ConfigError("tensor parallelism does not support layers with norms inside their branches: leave out tp")
    for name, size in (("heads", config.heads), ("mlp_dim", config.mlp_dim)):
        if size % tp_size:
            raise ConfigError(f"tp must divide the model's {name}, {size}, got {tp_size}")


def adds_branches_first(config: ViTConfig) -> bool:
    """Return whether a layer can add its branches before the all-reduce, as everything in between is linear.

    The gradient of a layer scale needs the reduced outputs.
    """
    return config.design.block == "parallel" and config.design.layer_scale is None and config.dropout == 0
