import torch
from torch import nn

from megavit.bench.memory import peak_memory

SIDE = 512


def test_it_is_the_weights_the_gradient_and_what_the_step_keeps() -> None:
    def make(kept: int):
        model = nn.Linear(SIDE, SIDE, bias=False)

        def step() -> None:
            alive = [torch.ones(SIDE, SIDE) for _ in range(kept)]
            model.weight.grad = torch.zeros_like(model.weight)
            del alive

        return step

    few, many = (peak_memory(lambda kept=kept: make(kept), torch.device("cpu")) for kept in (1, 4))
    matrix = 4 * SIDE**2
    assert 3 * matrix <= few < 5 * matrix
    assert many - few == 3 * matrix
