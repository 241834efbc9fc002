"""DDP, FSDP2, tensor parallelism and their mixtures, applied to a model that is whole in every process."""

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from megavit.config.recipe import ParallelRecipe
from megavit.model.vit import MegaVit


def make_mesh(parallel: ParallelRecipe, device: torch.device) -> DeviceMesh:
    """The processes as a grid; neighbours, mostly on one machine, compute a layer together."""
    sizes = (parallel.replicate, parallel.shard, parallel.tensor)
    return init_device_mesh(device.type, sizes, mesh_dim_names=("replicate", "shard", "tensor"))


def spread(model: MegaVit, mesh: DeviceMesh, *, trained: bool) -> nn.Module:
    """Divide `model` over the mesh, in place; the answer is what to call for its forward pass.

    Args:
        trained: gradients are to be averaged over the processes.
    """
    replicate, shard, tensor = mesh.shape
    if shard == tensor == 1:
        if not trained:
            return model
        from torch.nn.parallel import DistributedDataParallel

        device = next(model.parameters()).device
        return DistributedDataParallel(
            model, device_ids=[device] if device.type == "cuda" else None
        )  # fmt: skip
    from torch.distributed.fsdp import fully_shard

    if tensor > 1:
        from megavit.parallel.plans import divide_layers

        divide_layers(model, mesh["tensor"])
    # Also where there is nothing to shard: every parameter is then divided in one way.
    data = mesh["replicate", "shard"] if replicate > 1 else mesh["shard"]
    for layer in model.transformer.layers:
        fully_shard(layer, mesh=data, reshard_after_forward=True)
    fully_shard(model, mesh=data, reshard_after_forward=True)
    return model
