"""A graph whose layers multiply 8-bit integers.

Activations are rounded per tensor, weights per output, by bounds that are found once and for all on a few images.
"""

from collections.abc import Iterable

import numpy as np
import openvino as ov
import torch
from openvino import opset15 as op
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.engine.fuse_norms import Matrix
from megavit.engine.graph import Node, build, constant, plain_product
from megavit.engine.inputs import Arrays, Inputs
from megavit.engine.signal_stack import keeping_signal_stack
from megavit.model.vit import MegaVit

LEVELS = 256
# Instead of the bound of what is zero throughout.
LEAST = 1e-6


class Probe:
    """Products as they are, whose inputs come out of the graph too."""

    def __init__(self) -> None:
        self.inputs: list[Node] = []

    def __call__(self, x: Node, of: Matrix) -> Node:
        self.inputs.append(x)
        return plain_product(x, of)


class Quantized:
    """Products of 8-bit integers; `bounds` are of their inputs' magnitudes, in the order in which the graph is built.

    Ranges lie evenly about zero: OpenVINO multiplies those faster than shifted ones.
    """

    def __init__(self, bounds: Iterable[float]) -> None:
        self._bounds = iter(bounds)
        self._rounded: dict[str, Node] = {}

    def __call__(self, x: Node, of: Matrix) -> Node:
        weight, bias = of
        bound = max(next(self._bounds), LEAST)
        name = x.get_name() if isinstance(x, ov.Node) else f"{x.get_node().get_name()}.{x.get_index()}"
        if name not in self._rounded:  # of an input of several products only once
            ends = [op.constant(np.float32(end)) for end in (-bound, bound * (LEVELS / 2 - 1) / (LEVELS / 2))]
            self._rounded[name] = op.fake_quantize(x, *ends, *ends, LEVELS)
        step = weight.abs().amax(dim=1, keepdim=True).clamp(min=LEAST) / (LEVELS / 2 - 1)
        levels = op.constant((weight / step).round().to(torch.int8).numpy())
        x = op.matmul(self._rounded[name], op.multiply(op.convert(levels, np.float32), constant(step)), False, True)
        return x if bias is None else op.add(x, constant(bias))


def calibrate(model: MegaVit, preprocessing: Preprocessing, batches: Iterable[Tensor]) -> list[float]:
    """The largest magnitude of every layer's inputs over uint8 batches (B, C, height, width), in the graph's order."""
    probe, inputs_of = Probe(), Inputs(model, preprocessing)
    with torch.no_grad():
        graph = build(model, preprocessing, probe)
    graph.add_results([op.result(value) for value in probe.inputs])
    with keeping_signal_stack():
        compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found: list[float] = []
    for batch in batches:
        with keeping_signal_stack():
            new = _largest(compiled, inputs_of(batch))
        found = list(map(max, found, new)) if found else new
    with keeping_signal_stack():
        del compiled
    return found


def _largest(compiled: ov.CompiledModel, inputs: Arrays) -> list[float]:
    """Of each output but features and logits; nothing is left that would keep the graph alive."""
    answers = compiled(inputs)
    return [float(np.abs(answers[place]).max()) for place in range(2, len(compiled.outputs))]
