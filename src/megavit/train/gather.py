"""The end of a run of several processes: the weights to keep, whole in the one that writes the bundle."""

import torch

from megavit.model.vit import MegaVit
from megavit.train.divided import whole_tensor
from megavit.train.state import NUMBERS, TrainState
from megavit.weights.tensors import load_weights


def gathered(state: TrainState) -> TrainState:
    """`state` as if the leader had trained alone, without optimisers; as it is in the others. All must ask."""
    leads, device = state.team.ranks.leads, next(state.model.parameters()).device
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
    alone = TrainState(model=model, average=model, optimisers=[], best=model.state_dict(), history=state.history)
    for name in NUMBERS:
        setattr(alone, name, getattr(state, name))
    return alone
