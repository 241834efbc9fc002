"""The linear layer with oneDNN's products: equal to PyTorch's own, and used only where nothing else is wanted."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from megavit.model.kernels import linear
from megavit.model.kernels.linear import Linear

needs_bfloat16 = pytest.mark.skipif(
    not linear.has_onednn_bfloat16(), reason="this processor does not multiply in bfloat16"
)
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.Size]]:
    """Use oneDNN on every processor, and record the shapes of what it multiplies."""
    shapes: list[torch.Size] = []
    multiply = linear.multiply

    def record(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        shapes.append(x.shape)
        return multiply(x, weight, bias)

    monkeypatch.setattr(linear, "is_onednn_faster", lambda: True)
    monkeypatch.setattr(linear, "has_onednn_bfloat16", lambda: False)
    monkeypatch.setattr(linear, "multiply", record)
    yield shapes


def make(inputs: int, outputs: int, bias: bool = True) -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    ours, theirs = Linear(inputs, outputs, bias=bias), nn.Linear(inputs, outputs, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def gradients(layer: nn.Linear, x: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    output = layer(x)
    return [output, *torch.autograd.grad(output.sin().sum(), [x, *layer.parameters()])]


@needs_onednn
@pytest.mark.parametrize("capability", ["AVX512", "AVX2"])
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 70),
    bias=st.booleans(),
)
def test_outputs_and_gradients_are_pytorchs(
    capability: str, shape: list[int], inputs: int, outputs: int, bias: bool
) -> None:
    ours, theirs = make(inputs, outputs, bias)
    x = torch.randn(*shape, inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "is_onednn_faster", lambda: True)
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        found = gradients(ours, x)
    for a, b in zip(found, gradients(theirs, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@needs_onednn
def test_a_view_is_multiplied_and_frozen_weights_have_no_gradient(products: list[torch.Size]) -> None:
    ours, theirs = make(6, 4)
    ours.requires_grad_(False)
    x = torch.randn(3, 6, 5).transpose(1, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(ours(x).sum(), x)
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs(x).sum(), x)[0])
    assert products == [(3, 5, 6), (3, 5, 4)]  # no product for a gradient of the weights
    with torch.inference_mode():
        assert not ours(x).requires_grad
    assert len(products) == 3


@needs_onednn
def test_a_gradient_has_a_gradient(products: list[torch.Size]) -> None:
    ours, _ = make(5, 3)
    x = torch.randn(4, 5, dtype=torch.float32, requires_grad=True)
    (first,) = torch.autograd.grad(ours(x).sin().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    expected = torch.autograd.functional.hvp(lambda y: (y @ ours.weight.t() + ours.bias).sin().sum(), x, first)[1]
    torch.testing.assert_close(second, 2 * expected)
    assert products


@needs_bfloat16
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 70),
    is_autocast=st.booleans(),
)
def test_bfloat16_is_multiplied_as_by_pytorch(shape: list[int], inputs: int, outputs: int, is_autocast: bool) -> None:
    ours, theirs = make(inputs, outputs)
    x = torch.randn(*shape, inputs)
    if not is_autocast:
        ours, theirs, x = ours.to(torch.bfloat16), theirs.to(torch.bfloat16), x.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        assert linear.find_dtype(x, ours.weight) == torch.bfloat16
        found, expected = gradients(ours, x), gradients(theirs, x)
    assert [a.dtype for a in found] == [b.dtype for b in expected]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02)


@needs_bfloat16
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_dtypes_are_left_to_pytorch(dtype: torch.dtype) -> None:
    x, weight = torch.randn(3, 6), torch.randn(4, 6)
    assert linear.find_dtype(x.to(dtype), weight.to(dtype)) is None
    assert linear.find_dtype(x, weight.to(torch.bfloat16)) is None  # which PyTorch reports
    with torch.autocast("cpu", torch.bfloat16):
        assert linear.find_dtype(x, weight.to(dtype)) is None
    if dtype == torch.float16:
        with torch.autocast("cpu", dtype):
            assert linear.find_dtype(x, weight) is None


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=needs_bfloat16)])
def test_a_wrong_width_is_reported_with_both_shapes(dtype: torch.dtype) -> None:
    with pytest.raises(RuntimeError, match="15x5 and 6x4"):
        Linear(6, 4).to(dtype)(torch.randn(3, 5, 5).to(dtype))


CASES: dict[str, Callable[[nn.Linear, Tensor], Any]] = {
    "one vector": lambda layer, x: layer(x[0]),
    "no rows": lambda layer, x: layer(x[:0]),
    "bfloat16": lambda layer, x: layer.to(torch.bfloat16)(x.to(torch.bfloat16)),
    "float64": lambda layer, x: layer.double()(x.double()),
    "vmap": lambda layer, x: torch.func.vmap(layer)(x),
    "forward mode": lambda layer, x: torch.func.jvp(layer, (x,), (x,)),
    "jacobian": lambda layer, x: torch.func.jacrev(layer)(x),
    "compiler": lambda layer, x: torch.compile(layer, backend="eager", fullgraph=True)(x),
    "export": lambda layer, x: torch.export.export(layer, (x,)).module()(x),
    "meta": lambda layer, x: layer.to("meta")(x.to("meta")),
}


@needs_onednn
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # of PyTorch's own forward mode
@pytest.mark.parametrize("case", CASES)
def test_everything_else_is_left_to_pytorch(products: list[torch.Size], case: str) -> None:
    ours, theirs = make(6, 4)
    x = torch.randn(3, 6)
    torch.testing.assert_close(CASES[case](ours, x), CASES[case](theirs, x))
    assert not products


@needs_onednn
def test_autocast_and_modes_that_watch_operations_see_pytorchs_own(products: list[torch.Size]) -> None:
    ours, theirs = make(6, 4)
    x = torch.randn(3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(x), theirs(x))
    with FlopCounterMode(display=False) as counter:
        ours(x)
    assert counter.get_total_flops() == 2 * 3 * 6 * 4
    assert not products


def test_a_processor_is_amds_by_its_vendor(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    from megavit.runtime import processors

    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(processors, "_CPU_INFO", info)
    monkeypatch.setattr(processors.platform, "processor", lambda: "AMD64 Family 25 Model 97, AuthenticAMD")
    assert processors.is_amd()  # as on Windows, without the file
    for vendor, expected in (("AuthenticAMD", True), ("GenuineIntel", False)):
        info.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: X\n", encoding="utf-8")
        assert processors.is_amd() == expected
