"""Blocks add to the residual stream, with their own norms, and are their formulas piece by piece."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from megavit.config.vit import PLAIN_VIT, Design, ViTConfig
from megavit.model.block import ParallelBlock, SerialBlock, Transformer
from megavit.model.layers import DropPath, LayerScale
from megavit.model.vit import MegaVit

CONFIG = ViTConfig(
    image_size=(8, 12), patch_size=4, num_classes=5, dim=32, depth=3, heads=4, mlp_dim=48, dim_head=12, pool="mean"
)
NORMS = (nn.LayerNorm, nn.RMSNorm)
BOTH = pytest.mark.parametrize("design", [Design(), PLAIN_VIT], ids=["parallel", "serial"])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def shaken(config: ViTConfig) -> Any:
    """A `MegaVit` whose every parameter, biases and norms too, is away from its initial value."""
    model = MegaVit.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def silence(transformer: nn.Module) -> None:
    """Zero every layer's output projections."""
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if ".out." in name or name.startswith("out."):
                parameter.zero_()


@BOTH
def test_blocks_share_no_norm(design: Design) -> None:
    model = MegaVit.from_config(replace(CONFIG, design=design))
    norms = [module for module in model.modules() if isinstance(module, NORMS)]
    assert len({id(norm) for norm in norms}) == len(norms)
    assert len({parameter.data_ptr() for parameter in model.parameters()}) == len(list(model.parameters()))
    assert model.norm not in list(model.transformer.modules())


@pytest.mark.parametrize(
    ("design", "of_stream", "of_head"),
    [(Design(), 1, 2), (Design(qk_norm=False), 1, 0), (PLAIN_VIT, 2, 0), (Design(block="serial", norm="rms"), 2, 2)],
)
def test_a_branch_is_normalized_once(design: Design, of_stream: int, of_head: int) -> None:
    """A parallel block has exactly one norm for both branches, a serial one a norm a branch."""
    model = MegaVit.from_config(replace(CONFIG, design=design))
    for layer in model.transformer.layers:
        widths = [module.normalized_shape for module in layer.modules() if isinstance(module, NORMS)]
        assert widths.count((32,)) == of_stream
        assert widths.count((12,)) == of_head
        assert len(widths) == of_stream + of_head
    assert sum(isinstance(module, NORMS) for module in model.modules()) == 3 * (of_stream + of_head) + 1


@BOTH
@torch.no_grad()
def test_a_block_with_silent_branches_is_the_identity(design: Design) -> None:
    block = shaken(replace(CONFIG, design=design)).transformer.layers[0]
    x = 10 * torch.randn(2, 7, 32)
    assert (block(x) - x).abs().max() > 0.1
    silence(block)
    assert torch.equal(block(x), x)


@BOTH
@torch.no_grad()
def test_a_deep_stack_with_silent_branches_passes_the_embedding_to_the_last_norm(design: Design) -> None:
    model = shaken(replace(CONFIG, design=design, depth=24))
    silence(model.transformer)
    images = torch.randn(2, 3, 8, 12)
    embedded = model.patch_embedding(images) + model.positions.table
    torch.testing.assert_close(model.features(images).patches, model.norm(embedded))


@BOTH
@torch.no_grad()
def test_the_stream_keeps_what_no_branch_sees(design: Design) -> None:
    """A constant on all channels is invisible to LayerNorm; a block that replaced the stream would lose it."""
    block = shaken(replace(CONFIG, design=design)).transformer.layers[0]
    x = torch.randn(2, 7, 32)
    torch.testing.assert_close(block(x + 8.0), block(x) + 8.0, atol=1e-4, rtol=1e-4)


def attention_by_hand(block: nn.Module, n: Tensor) -> Tensor:
    """From the weights alone: LayerNorm per head on queries and keys where the block has it."""
    weights = dict(block.named_parameters())
    zero = torch.zeros(())
    projected = n @ weights["attention.to_qkv.weight"].T + weights.get("attention.to_qkv.bias", zero)
    query, key, value = projected.reshape(2, 7, 3, 4, 12).unbind(2)
    normed = []
    for name, part in (("query", query), ("key", key)):
        if f"attention.{name}_norm.weight" in weights:
            part = norm_by_hand(part, weights, f"attention.{name}_norm")
        normed.append(part)
    logits = torch.einsum("bqhk,bthk->bhqt", *normed) / 12**0.5
    mixed = torch.einsum("bhqt,bthk->bqhk", logits.exp() / logits.exp().sum(dim=-1, keepdim=True), value)
    return mixed.reshape(2, 7, 48) @ weights["attention.out.weight"].T + weights["attention.out.bias"]


def mlp_by_hand(block: nn.Module, n: Tensor) -> Tensor:
    weights = dict(block.named_parameters())
    hidden = n @ weights["mlp.into.weight"].T + weights["mlp.into.bias"]
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return hidden @ weights["mlp.out.weight"].T + weights["mlp.out.bias"]


def norm_by_hand(x: Tensor, weights: dict[str, nn.Parameter], name: str) -> Tensor:
    scaled = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    return scaled * weights[f"{name}.weight"] + weights.get(f"{name}.bias", torch.zeros(()))


@pytest.mark.parametrize("qkv_bias", [False, True])
@pytest.mark.parametrize("norm_bias", [False, True])
@torch.no_grad()
def test_the_parallel_block_is_its_formula_piece_by_piece(qkv_bias: bool, norm_bias: bool) -> None:
    """Every bias of QKV, MLP and outputs is its own: none is mixed up with another."""
    design = Design(qkv_bias=qkv_bias, norm_bias=norm_bias, layer_scale=0.5)
    block = shaken(replace(CONFIG, design=design)).transformer.layers[1]
    weights = dict(block.named_parameters())
    x = torch.randn(2, 7, 32)
    n = norm_by_hand(x, weights, "norm")
    attended, fed = attention_by_hand(block, n), mlp_by_hand(block, n)
    torch.testing.assert_close(block.norm(x), n, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(block.attention(n), attended, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(block.mlp(n), fed, atol=1e-5, rtol=1e-4)
    expected = x + weights["attention_scale.factor"] * attended + weights["mlp_scale.factor"] * fed
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_serial_block_is_its_formula_piece_by_piece() -> None:
    block = shaken(replace(CONFIG, design=replace(PLAIN_VIT, layer_scale=0.5))).transformer.layers[1]
    weights = dict(block.named_parameters())
    x = torch.randn(2, 7, 32)
    attended = attention_by_hand(block, norm_by_hand(x, weights, "attention_norm"))
    between = x + weights["attention_scale.factor"] * attended
    expected = between + weights["mlp_scale.factor"] * mlp_by_hand(block, norm_by_hand(between, weights, "mlp_norm"))
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-4)


@BOTH
@torch.no_grad()
def test_the_layers_follow_each_other(design: Design) -> None:
    transformer = shaken(replace(CONFIG, design=design)).transformer
    x = torch.randn(2, 7, 32)
    first, second, third = transformer.layers
    assert torch.equal(transformer(x), third(second(first(x))))
    assert not torch.allclose(transformer(x), first(second(third(x))))


def test_layer_scale_multiplies_each_channel() -> None:
    scale = LayerScale(4)
    with torch.no_grad():
        scale.factor.copy_(torch.tensor([0.0, 1.0, 2.0, -1.0]))
    assert torch.equal(scale(torch.full((2, 3, 4), 3.0)), torch.tensor([0.0, 3.0, 6.0, -3.0]).expand(2, 3, 4))


@BOTH
def test_each_branch_has_its_own_layer_scale_or_none(design: Design) -> None:
    scaled = Transformer(replace(CONFIG, design=replace(design, layer_scale=0.1)))
    assert sum(isinstance(module, LayerScale) for module in scaled.modules()) == 6
    assert not any(isinstance(module, LayerScale) for module in Transformer(replace(CONFIG, design=design)).modules())


@BOTH
def test_drop_path_grows_linearly_from_0_to_the_last_block(design: Design) -> None:
    transformer: Any = Transformer(replace(CONFIG, depth=5, design=replace(design, drop_path=0.4)))
    assert [layer.drop_path.probability for layer in transformer.layers] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_drop_path_drops_whole_samples_and_scales_up_the_rest() -> None:
    branch = torch.randn(4000, 3, 2)
    dropped = DropPath(0.25)(branch)
    kept = (dropped != 0).flatten(1).any(dim=1)
    torch.testing.assert_close(dropped[kept], branch[kept] / 0.75)
    assert (dropped[~kept] == 0).all()
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)


@torch.no_grad()
def test_drop_path_keeps_the_mean_of_a_branch() -> None:
    assert DropPath(0.25)(torch.ones(20_000, 1, 1)).mean().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("probability", [0.0, 0.9])
def test_drop_path_does_nothing_outside_training(probability: float) -> None:
    branch = torch.randn(8, 3, 2)
    assert torch.equal(DropPath(probability).eval()(branch), branch)
    assert torch.equal(DropPath(0.0)(branch), branch)


@torch.no_grad()
def test_a_parallel_block_drops_both_branches_together() -> None:
    block = ParallelBlock(replace(CONFIG, design=Design(drop_path=0.5)), drop_path=0.5)
    x = torch.randn(32, 7, 32)
    branches = block.eval()(x) - x
    change = block.train()(x) - x
    skipped = (change == 0).flatten(1).all(dim=1)
    assert 0 < skipped.sum() < 32
    torch.testing.assert_close(change[~skipped], 2 * branches[~skipped], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_serial_block_drops_its_branches_apart() -> None:
    """Of four equally likely outcomes (neither, attention, MLP, both) each is seen."""
    block = SerialBlock(replace(CONFIG, design=PLAIN_VIT), drop_path=0.5)
    x = torch.randn(64, 7, 32)

    def after(attention_factor: float, mlp_factor: float) -> Tensor:
        between = x + attention_factor * block.attention(block.attention_norm(x))
        return between + mlp_factor * block.mlp(block.mlp_norm(between))

    outcomes = torch.stack([after(a, m) for a in (0.0, 2.0) for m in (0.0, 2.0)])
    distance = (outcomes - block(x)).abs().amax(dim=(2, 3))
    assert (distance.min(dim=0).values < 1e-4).all()
    assert set(distance.argmin(dim=0).tolist()) == {0, 1, 2, 3}
