"""The end of a run of several processes: the weights to keep, whole in the one that writes the bundle."""

import torch
from torch import Tensor

from megavit.distributed.dtensor_utils import local, whole
from megavit.distributed.fused_qkv_rows import by_part, fused
from megavit.model.vit import MegaVit
from megavit.train.state import NUMBERS, TrainState
from megavit.weights.bundle.safetensors_io import load_weights


def gather_full_state(state: TrainState) -> TrainState:
    """`state` as if the leader had trained alone, without optimizers; as it is in the others. All must ask."""
    leads, device = state.parallel.dist.is_main_process, next(state.model.parameters()).device
    kept: dict[str, torch.Tensor] = {}
    for name, tensor in state.best.items():
        full = whole_tensor(name, tensor, state)
        if leads:
            kept[name] = full.detach().cpu()
    if not leads:
        return state
    with torch.device("meta"):
        model = MegaVit.from_config(state.model.config)
    load_weights(model, kept, "the run")
    model = model.to(device).requires_grad_()
    alone = TrainState(model=model, ema_model=model, optimizers=[], best=model.state_dict(), history=state.history)
    for name in NUMBERS:
        setattr(alone, name, getattr(state, name))
    return alone


def whole_tensor(name: str, tensor: Tensor, state: TrainState) -> Tensor:
    """All of a tensor of `state`, with its rows in the model's own order; every process must ask."""
    full = whole(local(tensor), tensor)
    parts = fused(name, state.model.config)
    return by_part(full, parts, state.parallel.tp_size) if parts > 1 and state.parallel.tp_size > 1 else full
