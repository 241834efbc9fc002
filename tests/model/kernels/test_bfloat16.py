"""The MLP and self-attention in bfloat16 on a CPU: equal to separate operations, and used only where they can be."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from megavit.config.vit import PLAIN_VIT, ViTConfig
from megavit.model.attention import MAX_EAGER_TOKENS, Attention
from megavit.model.block import Transformer
from megavit.model.kernels import bfloat16, linear
from megavit.model.mlp import FeedForward
from megavit.training.optim.lora import add_lora

pytestmark = pytest.mark.skipif(not linear.has_onednn_bfloat16(), reason="this processor does not multiply in bfloat16")

Module = TypeVar("Module", bound=nn.Module)

CONFIG = ViTConfig(
    image_size=16, patch_size=4, num_classes=3, dim=24, depth=2, heads=3, dim_head=8, mlp_dim=40, design=PLAIN_VIT
)


@contextmanager
def separately() -> Iterator[None]:
    """Compute by PyTorch's own operations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "has_onednn_bfloat16", lambda: False)
        yield


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record which functions of this module compute."""
    names: list[str] = []

    def record(name: str) -> None:
        part = getattr(bfloat16, name)
        forward = part.forward

        def recorded(*arguments: Any) -> Tensor:
            names.append(name)
            return forward(*arguments)

        monkeypatch.setattr(part, "forward", staticmethod(recorded))

    record("_GeluMLP")
    record("_SelfAttention")
    return names


def randomize(module: Module) -> Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def gradients(module: nn.Module, x: Tensor, *arguments: Any) -> list[Tensor]:
    x = x.detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=x.dtype == torch.float32):
        output = module(x, *arguments)
    wanted = [x, *(parameter for parameter in module.parameters() if parameter.requires_grad)]
    return [output, *torch.autograd.grad(output.float().sin().sum(), wanted)]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02 * b.abs().max().item())


@given(
    images=st.integers(1, 4),
    tokens=st.integers(1, 40),
    heads=st.integers(1, 4),
    width=st.integers(1, 20),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_outputs_and_gradients_are_those_of_separate_operations(
    images: int, tokens: int, heads: int, width: int, dtype: torch.dtype
) -> None:
    config = replace(CONFIG, heads=heads, dim_head=width)
    x = torch.randn(images, tokens, config.dim).to(dtype)
    for module in (Attention(config), FeedForward(config), Transformer(config)):
        randomize(module).to(dtype)
        found = gradients(module, x)
        with separately():
            assert_equal(found, gradients(module, x))


@pytest.mark.parametrize(
    ("frozen", "count"), [(["into"], 3), (["out"], 3), (["into.bias", "out.weight"], 3), (["into", "out"], 1)]
)
def test_what_is_frozen_has_no_gradient(joined: list[str], frozen: list[str], count: int) -> None:
    module, x = randomize(FeedForward(CONFIG)), torch.randn(2, 5, CONFIG.dim)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(frozen)))
    found = gradients(module, x)
    assert len(found) == 1 + count
    assert joined == ["_GeluMLP"]
    with separately():
        assert_equal(found, gradients(module, x))


def test_a_frozen_input_leaves_the_gradient_of_the_last_matrix() -> None:
    module, x = randomize(FeedForward(CONFIG)), torch.randn(2, 5, CONFIG.dim)
    module.into.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = torch.autograd.grad(module(x).float().sum(), [module.out.weight])
        with separately():
            (expected,) = torch.autograd.grad(module(x).float().sum(), [module.out.weight])
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def test_the_input_stays_as_it_is() -> None:
    qkv = torch.randn(1, 1, 3 * 8).to(torch.bfloat16)  # its parts could be views of it
    before = qkv.clone()
    bfloat16.self_attention(qkv, 2)
    assert torch.equal(qkv, before)


def test_a_wrong_width_is_reported_with_both_shapes() -> None:
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match="10x5 and 24x40"):
        FeedForward(CONFIG)(torch.randn(2, 5, 5))


def test_a_gradient_of_a_gradient_is_an_error() -> None:
    module, x = FeedForward(CONFIG), torch.randn(2, 5, CONFIG.dim, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        (gradient,) = torch.autograd.grad(randomize(module)(x).float().square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def hooked(module: FeedForward) -> FeedForward:
    module.out.register_forward_pre_hook(lambda *_: None)
    return module


def with_lora(transformer: Transformer) -> FeedForward:
    model: Any = nn.Module()
    model.transformer, model.mlp_head = transformer, nn.Identity()
    add_lora(model, 2)
    layer: Any = transformer.layers[0]
    return layer.mlp


def mlp(**changes: Any) -> FeedForward:
    return FeedForward(replace(CONFIG, **changes))


def design(**changes: Any) -> dict[str, Any]:
    return {"design": replace(PLAIN_VIT, **changes)}


OTHERS: dict[str, Callable[[], Any]] = {
    "dropout": lambda: mlp(dropout=0.5).train(),
    "another activation": lambda: mlp(**design(mlp="swiglu")),
    "a norm before the last matrix": lambda: mlp(**design(mlp_out_norm=True)),
    "a hook": lambda: hooked(mlp()),
    "query and key norms": lambda: Attention(replace(CONFIG, **design(qk_norm=True))),
    "dropout of attention weights": lambda: Attention(replace(CONFIG, dropout=0.5)).train(),
    "compiled": lambda: torch.compile(mlp(), backend="eager", fullgraph=True),
}


@pytest.mark.parametrize("case", OTHERS)
def test_everything_else_is_computed_by_separate_operations(joined: list[str], case: str) -> None:
    module, x = randomize(OTHERS[case]()), torch.randn(2, 5, CONFIG.dim)
    torch.manual_seed(0)
    found = gradients(module, x)
    assert not joined
    with separately():
        torch.manual_seed(0)
        assert_equal(found, gradients(module, x))


def test_without_dropout_in_evaluation_it_is_joined(joined: list[str]) -> None:
    gradients(mlp(dropout=0.5).eval(), torch.randn(2, 5, CONFIG.dim))
    gradients(Attention(replace(CONFIG, dropout=0.5)).eval(), torch.randn(2, 5, CONFIG.dim))
    assert joined == ["_GeluMLP", "_SelfAttention"]


def test_low_rank_updates_are_trained(joined: list[str]) -> None:
    transformer = Transformer(CONFIG)
    module = with_lora(transformer)
    randomize(module)
    x = torch.randn(2, 5, CONFIG.dim)
    found = gradients(module, x)
    assert not joined
    with separately():
        assert_equal(found, gradients(module, x))


def test_many_tokens_and_single_outputs_are_left_to_other_kernels(joined: list[str]) -> None:
    attention = randomize(Attention(CONFIG))
    gradients(attention, torch.randn(1, MAX_EAGER_TOKENS + 1, CONFIG.dim))
    gradients(attention, torch.randn(1, 5, CONFIG.dim), None, None, 1)
    assert not joined
    gradients(attention, torch.randn(1, MAX_EAGER_TOKENS, CONFIG.dim))
    assert joined == ["_SelfAttention"]


def test_modes_that_watch_operations_see_pytorchs_own(joined: list[str]) -> None:
    module, x = mlp(), torch.randn(2, 5, CONFIG.dim)
    with torch.autocast("cpu", torch.bfloat16), FlopCounterMode(display=False) as counter:
        module(x)
    assert counter.get_total_flops() == 2 * 2 * 2 * 5 * CONFIG.dim * CONFIG.mlp_dim
    assert not joined


def test_values_are_those_of_float32_up_to_rounding() -> None:
    module, x = randomize(mlp()), torch.randn(3, 4, CONFIG.dim)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = module(x)
    with torch.no_grad():
        expected = module.out(F.gelu(module.into(x)))
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05 * expected.abs().max().item())
