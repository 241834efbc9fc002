"""Low-rank additions to a model's matrices (LoRA, arXiv 2106.09685); the model does not know about them."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from megavit.model.vit import MegaVit
from megavit.train.optimiser import matrices_within


class LowRank(nn.Module):
    """weight + up @ down, for each of the matrices that are stacked in it: so query, key and value have their own."""

    def __init__(self, weight: Tensor, rank: int, parts: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        # The product starts at zero, so that the model starts as it was.
        self.down = nn.Parameter(torch.randn(parts, rank, columns, device=weight.device) * columns**-0.5)
        self.up = nn.Parameter(torch.zeros(parts, rows // parts, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + torch.bmm(self.up, self.down).flatten(0, 1)


def add_lora(model: MegaVit, rank: int) -> None:
    """Freeze everything but the head, and give every matrix within the layers an addition of that rank.

    The additions start from torch's global random state. `merge_lora` makes the model an ordinary one again.
    """
    model.requires_grad_(False)
    model.mlp_head.requires_grad_(True)
    for module, parts in matrices_within(model).items():
        assert isinstance(module, nn.Linear)  # as all of them
        parametrize.register_parametrization(module, "weight", LowRank(module.weight, rank, parts))


@torch.no_grad()
def merge_lora(model: MegaVit) -> None:
    """Put the additions, if there are any, into the weights they are added to."""
    for module in matrices_within(model):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
