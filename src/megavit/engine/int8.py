"""Quantize a model's graph to int8: weights per output channel, activations per tensor, with calibrated ranges."""

from collections.abc import Iterable

import numpy as np
import openvino as ov
import torch
from openvino import opset15 as op
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.engine.fuse_norms import Matrix
from megavit.engine.graph import Node, build, constant, linear
from megavit.engine.graph_inputs import Arrays, GraphInputs
from megavit.engine.openvino_runtime import preserve_signal_stack
from megavit.model.vit import MegaVit

LEVELS = 256
MIN_BOUND = 1e-6  # for inputs that are all zero


class InputRecorder:
    """A float32 linear layer that records its inputs, so that they can become outputs of the graph."""

    def __init__(self) -> None:
        self.inputs: list[Node] = []

    def __call__(self, x: Node, matrix: Matrix) -> Node:
        self.inputs.append(x)
        return linear(x, matrix)


class QuantizedLinear:
    """A symmetric int8 linear layer; `bounds` are the largest magnitudes of the layers' inputs, in graph order."""

    def __init__(self, bounds: Iterable[float]) -> None:
        self._bounds = iter(bounds)
        self._quantized: dict[str, Node] = {}

    def __call__(self, x: Node, matrix: Matrix) -> Node:
        weight, bias = matrix
        bound = max(next(self._bounds), MIN_BOUND)
        name = x.get_name() if isinstance(x, ov.Node) else f"{x.get_node().get_name()}.{x.get_index()}"
        if name not in self._quantized:  # shared by several layers
            ends = [op.constant(np.float32(end)) for end in (-bound, bound * (LEVELS / 2 - 1) / (LEVELS / 2))]
            self._quantized[name] = op.fake_quantize(x, *ends, *ends, LEVELS)
        step = weight.abs().amax(dim=1, keepdim=True).clamp(min=MIN_BOUND) / (LEVELS / 2 - 1)
        levels = op.constant((weight / step).round().to(torch.int8).numpy())
        x = op.matmul(self._quantized[name], op.multiply(op.convert(levels, np.float32), constant(step)), False, True)
        return x if bias is None else op.add(x, constant(bias))


def calibrate(model: MegaVit, preprocessing: Preprocessing, batches: Iterable[Tensor]) -> list[float]:
    """Return the largest magnitude of every layer's inputs over uint8 batches (B, C, height, width), in graph order."""
    recorder, to_inputs = InputRecorder(), GraphInputs(model, preprocessing)
    with torch.no_grad():
        graph = build(model, preprocessing, recorder)
    graph.add_results([op.result(value) for value in recorder.inputs])
    with preserve_signal_stack():
        compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    bounds: list[float] = []
    for batch in batches:
        with preserve_signal_stack():
            new = _magnitudes(compiled, to_inputs(batch))
        bounds = list(map(max, bounds, new)) if bounds else new
    with preserve_signal_stack():
        del compiled
    return bounds


def _magnitudes(compiled: ov.CompiledModel, inputs: Arrays) -> list[float]:
    outputs = compiled(inputs)
    return [float(np.abs(outputs[index]).max()) for index in range(2, len(compiled.outputs))]
