"""Tensor parallelism of a layer: each process computes some of its heads and MLP channels.

Input projections of a branch are column-wise parallel, output projections row-wise; norms and the residual stream are
replicated. The serial block (arXiv 1909.08053, section 3) needs two all-reduces in each pass, the parallel block of
ViT-22B (arXiv 2302.05442) one, since its branches share their input and are added anyway.
"""

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Partial, Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    PrepareModuleOutput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from megavit.config.vit import ViTConfig
from megavit.distributed.fused_qkv_rows import count_fused, group_by_process
from megavit.distributed.tensor_parallel_support import adds_branches_first, check_tensor_parallel
from megavit.model.attention import Attention
from megavit.model.vit import MegaVit

HEADS_AXIS = 1  # of queries and keys (B, H, T, K)


def get_plan(config: ViTConfig, layer: nn.Module) -> dict[str, ParallelStyle]:
    """Return the parallel style of each module of a layer of the model, by its name in the layer."""
    plan: dict[str, ParallelStyle] = {"attention.to_qkv": ColwiseParallel(), "mlp.into": ColwiseParallel()}
    if adds_branches_first(config):
        # Gradients of the norm's output are reduced at the norm, and outputs of the branches at the next module.
        plan["norm"] = PrepareModuleOutput(
            output_layouts=Replicate(), desired_output_layouts=Replicate(), use_local_output=False
        )
        plan |= {
            name: RowwiseParallel(output_layouts=Partial(), use_local_output=False)
            for name in ("attention.out", "mlp.out")
        }
        plan["drop_path"] = PrepareModuleInput(
            input_layouts=(Partial(), None), desired_input_layouts=(Replicate(), None), use_local_output=True
        )
    else:
        plan |= {"attention.out": RowwiseParallel(), "mlp.out": RowwiseParallel()}
    # These weights are shared by all heads, so their gradients must be summed over the processes.
    for name in ("attention.query_norm", "attention.key_norm"):
        if not isinstance(layer.get_submodule(name), nn.Identity):
            plan[name] = SequenceParallel(sequence_dim=HEADS_AXIS, use_local_output=True)
    return plan


@torch.no_grad()
def apply_tensor_parallel(model: MegaVit, mesh: DeviceMesh) -> None:
    """Shard the layers of an unsharded model, the same in every process, over a one-dimensional mesh."""
    check_tensor_parallel(model.config, mesh.size())
    for layer in model.transformer.layers:
        for name, parameter in layer.named_parameters():
            fused = count_fused(name, model.config)
            if fused > 1:
                parameter.copy_(group_by_process(parameter, fused, mesh.size()))
        attention = layer.get_submodule("attention")
        assert isinstance(attention, Attention)  # ensured by `check_tensor_parallel`
        attention.heads //= mesh.size()
        parallelize_module(layer, mesh, get_plan(model.config, layer))
