"""The same answers on every way to run a model: meta, bfloat16, autocast, checkpointed, compiled, exported."""

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from megavit.config.vit import PLAIN_VIT, Design, ViTConfig
from megavit.model.vit import MegaVit

CONFIG = ViTConfig(image_size=(8, 12), patch_size=4, num_classes=5, dim=32, depth=2, heads=4, mlp_dim=48, dim_head=12)
DESIGNS = [
    Design(registers=2, layer_scale=0.1),
    PLAIN_VIT,
    Design(positions="rope", mlp="swiglu"),
    Design(block="serial", positions="sincos", norm="rms", mlp="relu2"),
]
EVERY_DESIGN = pytest.mark.parametrize("design", DESIGNS)
# PyTorch says once a process that a norm of bfloat16 tokens with float32 weights is not fused.
RMS_NOT_FUSED = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def make(**changes: Any) -> MegaVit:
    return MegaVit.from_config(replace(CONFIG, **changes))


@EVERY_DESIGN
def test_on_meta_a_forward_pass_costs_nothing_and_knows_its_shape(design: Design) -> None:
    with torch.device("meta"):
        model = make(design=design)
        for sides in ((8, 12), (20, 8)):
            logits = model(torch.randn(3, 3, *sides))
            assert logits.device.type == "meta"
            assert logits.shape == (3, 5)


@EVERY_DESIGN
@torch.no_grad()
def test_a_model_in_bfloat16_answers_in_it_and_nearly_the_same(design: Design) -> None:
    model = make(design=design).eval()
    x = torch.randn(4, 3, 8, 12)
    logits = copy.deepcopy(model).bfloat16()(x.bfloat16())
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), model(x), atol=0.02, rtol=0.05)


@RMS_NOT_FUSED
@EVERY_DESIGN
def test_under_autocast_the_answer_is_nearly_the_same_and_it_learns(design: Design) -> None:
    model = make(design=design)
    x = torch.randn(4, 3, 8, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(x)
    torch.testing.assert_close(logits.float(), model(x), atol=0.02, rtol=0.05)
    logits.float().square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.dtype == torch.float32, name


@RMS_NOT_FUSED
@pytest.mark.parametrize(
    "positions",
    [
        "learned",
        "sincos",
        "rope",
    ],
)
@torch.no_grad()
def test_under_autocast_the_residual_stream_stays_in_float32(positions: Any) -> None:
    """Small branches added to a bfloat16 stream would be rounded away, layer by layer."""
    model = make(design=Design(positions=positions))
    seen = []
    for layer in model.transformer.layers:
        layer.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.randn(2, 3, 8, 12))
    assert seen == [torch.float32] * 2


@torch.no_grad()
def test_a_model_in_float64_stays_in_it() -> None:
    model = make().eval()
    x = torch.randn(2, 3, 12, 8)
    logits = copy.deepcopy(model).double()(x.double())
    assert logits.dtype == torch.float64
    torch.testing.assert_close(logits.float(), model(x), atol=1e-5, rtol=1e-4)


@EVERY_DESIGN
def test_layers_may_be_checkpointed_with_identical_gradients(design: Design) -> None:
    model = make(design=replace(design, drop_path=0.3, patch_drop=0.2), dropout=0.2)
    saving = copy.deepcopy(model)
    for layer in saving.transformer.layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    x = torch.randn(4, 3, 8, 12)
    gradients: list[dict[str, Any]] = []
    for each in (model, saving):
        torch.manual_seed(1)
        each(x).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in each.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


def test_a_model_can_be_copied_while_it_trains() -> None:
    model = make()
    model(torch.randn(2, 3, 8, 12)).sum().backward()
    again = copy.deepcopy(model)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("design", [Design(), Design(block="serial", positions="rope", registers=2)])
def test_the_model_compiles_as_one_graph_forward_and_backward(design: Design) -> None:
    """`aot_eager` traces both graphs; code generation, which is not ours, is left out for its time."""
    torch.compiler.reset()
    model = make(design=design, depth=1)
    compiled: Any = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
    x = torch.randn(2, 3, 8, 12)
    gradients = []
    for each in (model, compiled):
        each(x).square().sum().backward()
        gradients.append([parameter.grad for parameter in each.parameters()])
    torch.testing.assert_close(compiled(x), model(x), atol=1e-5, rtol=1e-4)
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_a_compiled_model_trains_on_images_of_several_sizes() -> None:
    """From the second size on, PyTorch compiles with sizes as symbols."""
    torch.compiler.reset()
    model = make(depth=1)
    compiled: Any = torch.compile(model, backend="aot_eager", fullgraph=True)
    for sides in ((8, 12), (12, 20)):
        compiled(torch.randn(2, 3, *sides)).sum().backward()


@pytest.mark.parametrize(("design", "pool"), list(zip(DESIGNS, ["cls", "mean", "map", "mean"], strict=True)))
def test_the_model_exports_with_any_batch_size(design: Design, pool: Any) -> None:
    model = make(design=design, pool=pool).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (torch.randn(2, 3, 8, 12),), dynamic_shapes={"img": {0: batch}})
    for size in (1, 2, 7):
        x = torch.randn(size, 3, 8, 12)
        torch.testing.assert_close(program.module()(x), model(x), atol=1e-5, rtol=1e-4)


def test_an_image_in_another_memory_layout_gives_the_same_answer() -> None:
    model = make().eval()
    x: Tensor = torch.randn(2, 3, 8, 12)
    torch.testing.assert_close(model(x.contiguous(memory_format=torch.channels_last)), model(x))
