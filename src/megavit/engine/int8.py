"""A graph whose layers multiply 8-bit integers, and how its ranges are measured on images.

Activations are rounded per tensor, weights per output, by ranges found once and for all on a few images.
"""

from collections.abc import Iterable

import numpy as np
import openvino as ov
import torch
from openvino import opset15 as op
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.engine.fold import Matrix
from megavit.engine.graph import Node, build, constant, plain_product
from megavit.engine.inputs import Inputs
from megavit.engine.ranges import Range
from megavit.model.vit import MegaVit

LEVELS = 256


class Probe:
    """Products as they are, whose inputs come out of the graph too."""

    def __init__(self) -> None:
        self.inputs: list[Node] = []

    def __call__(self, x: Node, of: Matrix) -> Node:
        self.inputs.append(x)
        return plain_product(x, of)


class Quantised:
    """Products of 8-bit integers; `ranges` in the order in which the graph is built."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        self._ranges = iter(ranges)
        self._rounded: dict[str, Node] = {}

    def __call__(self, x: Node, of: Matrix) -> Node:
        weight, bias = of
        given = next(self._ranges)
        name = x.get_name() if isinstance(x, ov.Node) else f"{x.get_node().get_name()}.{x.get_index()}"
        if name not in self._rounded:  # of an input of several products only once
            low, high = min(given.low, 0.0), max(given.high, given.low + 1e-6)
            limits = [op.constant(np.float32(limit)) for limit in (low, high, low, high)]
            self._rounded[name] = op.fake_quantize(x, *limits, LEVELS)
        bound = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-9)
        limits = [constant(sign * bound) for sign in (-1, 1, -1, 1)]
        x = op.matmul(self._rounded[name], op.fake_quantize(constant(weight), *limits, LEVELS - 1), False, True)
        return x if bias is None else op.add(x, constant(bias))


def calibrate(model: MegaVit, preprocessing: Preprocessing, batches: Iterable[Tensor]) -> list[Range]:
    """The range of every layer's inputs over uint8 batches (B, C, height, width), in the order of the graph."""
    probe, inputs_of = Probe(), Inputs(model, preprocessing)
    with torch.no_grad():
        graph = build(model, preprocessing, probe)
    graph.add_results([op.result(value) for value in probe.inputs])
    compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found: list[Range] = []
    for batch in batches:
        answers = compiled(inputs_of(batch))
        seen = [answers[place] for place in range(2, len(compiled.outputs))]  # after features and logits
        new = [Range(float(values.min()), float(values.max())) for values in seen]
        found = [a | b for a, b in zip(found, new, strict=True)] if found else new
    return found
