import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.training.optim.muon import Muon, orthogonalize


@given(count=st.integers(1, 3), rows=st.integers(1, 24), columns=st.integers(1, 24), scale=st.floats(1e-3, 1e3))
def test_orthogonalising_keeps_directions_and_brings_singular_values_near_one(count, rows, columns, scale):
    torch.manual_seed(rows * 100 + columns)
    matrices = torch.randn(count, rows, columns)
    found = orthogonalize(matrices * scale, torch.float32)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    stretched = left.mT @ found @ right.mT
    diagonal = stretched.diagonal(dim1=-2, dim2=-1)
    # Directions of almost no gradient stay small: the iteration has a fixed number of steps.
    clear = values > 0.05 * values.amax(dim=-1, keepdim=True)
    assert ((diagonal > 0.6) & (diagonal < 1.3))[clear].all()
    assert (stretched - torch.diag_embed(diagonal)).abs().max() < 1e-2


def test_a_matrix_without_gradient_direction_stays_zero():
    assert not orthogonalize(torch.zeros(1, 4, 6), torch.bfloat16).any()


def test_a_step_is_as_large_as_the_rate_whatever_the_gradient_is():
    torch.manual_seed(0)
    for scale in (1e-6, 1e6):
        weight = torch.nn.Parameter(torch.zeros(64, 16))
        weight.grad = torch.randn(64, 16) * scale
        Muon([weight], lr=0.1).step()
        norm = torch.linalg.matrix_norm(weight.detach(), ord=2).item()
        assert 0.1 * 2 * 0.6 < norm < 0.1 * 2 * 1.3  # sqrt(64 / 16) = 2


def test_parts_are_orthogonalized_each_by_itself():
    torch.manual_seed(0)
    whole, parts = torch.nn.Parameter(torch.zeros(12, 4)), [torch.nn.Parameter(torch.zeros(4, 4)) for _ in range(3)]
    gradient = torch.randn(12, 4)
    whole.grad = gradient
    for part, own in zip(parts, gradient.split(4), strict=True):
        part.grad = own.clone()
    Muon([{"params": [whole], "parts": 3}], lr=0.1).step()
    Muon(parts, lr=0.1).step()
    torch.testing.assert_close(whole.detach(), torch.cat([part.detach() for part in parts]), atol=1e-6, rtol=0)


def test_matrices_of_different_shapes_move_as_if_each_were_alone():
    torch.manual_seed(0)
    shapes = [(8, 4), (4, 8), (8, 4)]
    gradients = [torch.randn(shape) for shape in shapes]
    together, alone = ([torch.nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2))
    for parameters in (together, alone):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
    Muon(together, lr=0.1, weight_decay=0.5).step()
    for parameter in alone:
        Muon([parameter], lr=0.1, weight_decay=0.5).step()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_weights_decay_by_the_rate_times_the_decay():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.zeros(2, 2)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), 0.95))


def test_momentum_carries_a_step_on_without_a_new_gradient():
    weight = torch.nn.Parameter(torch.zeros(3, 3))
    muon = Muon([weight], lr=0.1)
    weight.grad = torch.eye(3)
    muon.step()
    before = weight.detach().clone()
    weight.grad = torch.zeros(3, 3)
    muon.step()
    assert (weight.detach().diagonal() < before.diagonal()).all()
