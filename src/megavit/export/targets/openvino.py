"""`ExportModule` as a graph of OpenVINO's, around the one that predictions run on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset15 as op

from megavit.config.calibration import Calibration
from megavit.config.export_info import IMAGES, METADATA, PIXELS, ExportPrecision, InputKind
from megavit.config.target import Target
from megavit.engine import graph
from megavit.engine.fuse_norms import Matrix
from megavit.engine.graph import build, can_build, constant, constant_int
from megavit.engine.inputs import Inputs
from megavit.engine.int8 import Quantized
from megavit.errors import ConfigError
from megavit.export.module import check_size, output_names
from megavit.export.resize import input_channels
from megavit.export.targets.openvino_resize import prepared
from megavit.predict.postprocess.ood import MahalanobisOOD
from megavit.predict.postprocess.postprocess import LEAST
from megavit.predict.predictor import Predictor

Node = Any


def whole_graph(
    predictor: Predictor, input: InputKind, precision: ExportPrecision, bounds: Sequence[float] | None = None
) -> ov.Model:
    """The graph, with inputs and outputs as of `ExportModule`.

    Args:
        precision: "float16" keeps the weights in 16 bits, and computes in float32.
        bounds: for "int8", as `megavit.engine.int8.calibrate` finds them.

    Raises:
        ConfigError: for a bundle that OpenVINO's operations do not do here.
    """
    check_size(predictor)
    model, preprocessing, info = predictor.model, predictor.info.preprocessing, predictor.info
    if not can_build(model) or model.config.design.patch_overlap:
        raise ConfigError("this model has a part that is not made for OpenVINO here: export it to onnx")
    product = half_product if precision == "float16" else graph.plain_product
    with torch.no_grad():
        core = build(model, preprocessing, product if bounds is None else Quantized(bounds))
    if input == "pixels":
        given = op.parameter([-1, -1, -1, input_channels(preprocessing)], np.uint8, name=PIXELS)
        x = prepared(given, preprocessing)
    else:
        given = op.parameter(
            [-1, preprocessing.channels, preprocessing.height, preprocessing.width], np.float32, name=IMAGES
        )
        mean, std = (_by_channel(value, preprocessing.channels) for value in (preprocessing.mean, preprocessing.std))
        # The graph normalizes by itself, and folds that into its first matrix.
        x = op.multiply(op.add(op.multiply(given, std), mean), np.float32(255))
    given.output(0).set_names({input})
    feeds: dict[str, Node] = {graph.PIXELS: _patches(x, model.config.patch_hw, model.config.grid)}
    decided = Inputs(model, preprocessing).decided_by(model.config.grid)
    feeds |= {name: op.constant(array) for name, array in decided.items()}
    for parameter in core.get_parameters():
        parameter.output(0).replace(feeds[parameter.get_friendly_name()].output(0))
    embedding, logits = (result.input_value(0) for result in core.get_results())
    found = [_answers(logits, info.target, info.calibration)] if model.config.num_classes else []
    found.append(op.convert(embedding, np.float32))
    if predictor.calibrator.ood is not None:
        found.append(_distance(embedding, predictor.calibrator.ood))
    for name, node in zip(output_names(predictor), found, strict=True):
        node.output(0).set_names({name})
    return ov.Model([op.result(node) for node in found], [given], "megavit")  # pyrefly: ignore[no-matching-overload]


def write_openvino(
    predictor: Predictor,
    path: Path,
    input: InputKind,
    precision: ExportPrecision,
    metadata: str,
    bounds: Sequence[float] | None,
) -> None:
    """Write the graph to `path`, an .xml file, and its weights beside it, with `metadata` inside."""
    found = whole_graph(predictor, input, precision, bounds)
    found.set_rt_info(metadata, METADATA)
    ov.save_model(found, path, compress_to_fp16=False)


def half_product(x: Node, of: Matrix) -> Node:
    """`megavit.engine.graph.plain_product` whose weights are kept in 16 bits."""
    weight, bias = of
    half = op.convert(op.constant(weight.detach().half().numpy()), np.float32)
    x = op.matmul(x, half, False, True)
    return x if bias is None else op.add(x, constant(bias))


def _patches(images: Node, patch_hw: tuple[int, int], grid: tuple[int, int]) -> Node:
    """(B, C, height, width) -> (B, N, C · height · width of a patch)."""
    (height, width), (rows, columns) = patch_hw, grid
    x = op.reshape(images, constant_int([0, 0, rows, height, columns, width]), True)
    x = op.transpose(x, constant_int([0, 2, 4, 1, 3, 5]))
    return op.reshape(x, constant_int([0, rows * columns, -1]), True)


def _answers(logits: Node, target: Target, calibration: Calibration) -> Node:
    """`megavit.predict.postprocess.postprocess.logits_to_outputs`."""
    if target.kind == "regression":
        score = op.squeeze(logits, constant_int([1]))
        return op.add(op.multiply(score, np.float32(target.std)), np.float32(target.mean))
    cooled = op.divide(logits, np.float32(calibration.temperature))
    if target.kind == "multilabel":
        return op.sigmoid(cooled)
    shares = op.softmax(cooled, 1)
    if not calibration.smoothing:
        return shares
    classes = shares.get_output_partial_shape(0)[1].get_length()
    own = op.maximum(op.subtract(shares, np.float32(calibration.smoothing / classes)), np.float32(LEAST))
    return op.divide(own, op.reduce_sum(own, constant_int([1]), True))


def _distance(embedding: Node, likeness: MahalanobisOOD) -> Node:
    """`MahalanobisOOD.distance`."""
    centered = op.subtract(embedding, constant(likeness.center))
    whitened = op.matmul(centered, constant(likeness.whitening), False, False)
    apart = op.subtract(op.unsqueeze(whitened, constant_int([1])), constant(likeness.groups))
    squares = op.reduce_sum(op.multiply(apart, apart), constant_int([2]), False)
    return op.sqrt(op.reduce_min(squares, constant_int([1]), False))


def _by_channel(value: float | tuple[float, ...], channels: int) -> Node:
    return constant(graph.by_channel(value, channels)[None, :, None, None])
