"""Rows added to a linear layer as another part leave the outputs of the former rows the same, to the bit."""

import pytest
import torch
from torch import nn

from megavit.model.outputs.split_linear import SplitLinear


@pytest.mark.parametrize("width", [32, 100, 192])
def test_every_part_gives_what_it_gives_alone(width: int) -> None:
    random = torch.Generator().manual_seed(0)
    for rows in range(1, 65):
        first, second = nn.Linear(width, rows), nn.Linear(width, 3)
        both = SplitLinear(width, (rows, 3))
        both.load_state_dict(
            {name: torch.cat([getattr(part, name) for part in (first, second)]) for name in ("weight", "bias")}
        )
        for batch in range(1, 18):
            x = torch.randn(batch, width, generator=random)
            assert torch.equal(both(x)[:, :rows], first(x))
            torch.testing.assert_close(both(x)[:, rows:], second(x))
