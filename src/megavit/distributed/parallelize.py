"""Apply DDP, FSDP2, tensor parallelism and their combinations to a model."""

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from megavit.model.vit import MegaVit


def make_mesh(replicate: int, shard: int, tensor: int, device_type: str) -> DeviceMesh:
    """Return a device mesh in which neighboring ranks, mostly of one machine, form tensor-parallel groups.

    It has the axis "shard", and "replicate" and "tensor" if their size exceeds 1.
    """
    sizes = {"replicate": replicate, "shard": shard, "tensor": tensor}
    axes = {name: size for name, size in sizes.items() if size > 1 or name == "shard"}
    return init_device_mesh(device_type, tuple(axes.values()), mesh_dim_names=tuple(axes))


def parallelize(model: MegaVit, mesh: DeviceMesh, *, trained: bool, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Parallelize `model` over the mesh in place, and return the module to call for its forward pass.

    Args:
        model: unsharded model, the same in every process; or on the meta device, if it is to be sharded.
        trained: whether gradients are averaged over the processes.
        dtype: data type in which FSDP2 gathers weights and the model computes; gradients are reduced in float32.
    """
    axes = mesh.mesh_dim_names or ()
    if mesh["shard"].size() == 1 and "tensor" not in axes:
        if not trained:
            return model
        from torch.nn.parallel import DistributedDataParallel

        device = next(model.parameters()).device
        return DistributedDataParallel(model, device_ids=[device] if device.type != "cpu" else None)
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    if "tensor" in axes:
        from megavit.distributed.tensor_parallel_plan import apply_tensor_parallel

        apply_tensor_parallel(model, mesh["tensor"])
    # FSDP2 is also applied with a single shard, so that every parameter is a DTensor.
    data = mesh["replicate", "shard"] if "replicate" in axes else mesh["shard"]
    low = dtype != torch.float32
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32) if low else MixedPrecisionPolicy()
    for layer in model.transformer.layers:
        fully_shard(layer, mesh=data, mp_policy=policy, reshard_after_forward=True)
    fully_shard(model, mesh=data, mp_policy=policy, reshard_after_forward=True)
    return model
