"""Export to OpenVINO: `ExportModule` in its operations, with `megavit.engine.graph` and `megavit.exporting.resize`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset15 as op

from megavit.config.calibration import Calibration
from megavit.config.export_info import IMAGES, METADATA, PIXELS, ExportPrecision, InputKind
from megavit.config.preprocessing import CropRounding, Preprocessing
from megavit.config.target import Target
from megavit.engine import graph
from megavit.engine.fuse_norms import Matrix
from megavit.engine.graph import Node, between, build, can_build, constant, constant_int
from megavit.engine.graph_inputs import GraphInputs
from megavit.engine.int8 import QuantizedLinear
from megavit.errors import ConfigError
from megavit.exporting.module import check_size, output_names
from megavit.exporting.resize import CUBIC, LUMA, MAX_SHIFT, MAX_WEIGHT, input_channels
from megavit.model.outputs.logits import MIN_PROBABILITY
from megavit.predict.postprocess.ood import MahalanobisOOD
from megavit.predict.predictor import Predictor


def build_graph(
    predictor: Predictor, input: InputKind, precision: ExportPrecision, bounds: Sequence[float] | None = None
) -> ov.Model:
    """Return the graph, with the inputs and outputs of `ExportModule`; raise a ConfigError for an unsupported layer.

    Args:
        precision: "float16" stores the weights in 16 bits, and computes in float32.
        bounds: for "int8", the bounds returned by `megavit.engine.int8.calibrate`.
    """
    check_size(predictor)
    model, preprocessing, info = predictor.model, predictor.info.preprocessing, predictor.info
    if not can_build(model):
        raise ConfigError("this model has a layer that the OpenVINO export does not support: export it to onnx")
    linear = half_linear if precision == "float16" else graph.linear
    with torch.no_grad():
        core = build(model, preprocessing, linear if bounds is None else QuantizedLinear(bounds))
    if input == "pixels":
        images = op.parameter([-1, -1, -1, input_channels(preprocessing)], np.uint8, name=PIXELS)
        x = resize_and_crop(images, preprocessing)
    else:
        images = op.parameter(
            [-1, preprocessing.channels, preprocessing.height, preprocessing.width], np.float32, name=IMAGES
        )
        mean, std = (_by_channel(value, preprocessing.channels) for value in (preprocessing.mean, preprocessing.std))
        # Undoes the normalization, which the graph fuses into its first projection.
        x = op.multiply(op.add(op.multiply(images, std), mean), np.float32(255))
    images.output(0).set_names({input})
    is_stem = model.config.design.stem == "conv"
    feeds: dict[str, Node] = {graph.PIXELS: x if is_stem else _patches(x, model.config.patch_hw, model.config.grid)}
    others = GraphInputs(model, preprocessing).for_shape((1, preprocessing.channels, *model.config.image_hw))
    feeds |= {name: op.constant(array) for name, array in others.items()}
    for parameter in core.get_parameters():
        parameter.output(0).replace(feeds[parameter.get_friendly_name()].output(0))
    embedding, logits = (result.input_value(0) for result in core.get_results())
    outputs = [_postprocess(logits, info.target, info.calibration)] if model.config.num_classes else []
    outputs.append(op.convert(embedding, np.float32))
    if predictor.calibrator.ood is not None:
        outputs.append(_distance(embedding, predictor.calibrator.ood))
    for name, node in zip(output_names(predictor), outputs, strict=True):
        node.output(0).set_names({name})
    return ov.Model([op.result(node) for node in outputs], [images], "megavit")  # pyrefly: ignore[no-matching-overload]


def write_openvino(
    predictor: Predictor,
    path: Path,
    input: InputKind,
    precision: ExportPrecision,
    metadata: str,
    *,
    bounds: Sequence[float] | None = None,
) -> None:
    """Write the graph to an .xml file at `path`, with `metadata` in it, and its weights to a .bin file."""
    model = build_graph(predictor, input, precision, bounds)
    model.set_rt_info(metadata, METADATA)
    ov.save_model(model, path, compress_to_fp16=False)


def half_linear(x: Node, matrix: Matrix) -> Node:
    """Return the same as `megavit.engine.graph.linear`, with weights stored in 16 bits."""
    weight, bias = matrix
    half = op.convert(op.constant(weight.detach().half().numpy()), np.float32)
    x = op.matmul(x, half, False, True)
    return x if bias is None else op.add(x, constant(bias))


def _patches(images: Node, patch_hw: tuple[int, int], grid: tuple[int, int]) -> Node:
    """Split (B, C, height, width) into patches (B, N, C · patch height · patch width)."""
    (height, width), (rows, columns) = patch_hw, grid
    x = op.reshape(images, constant_int([0, 0, rows, height, columns, width]), True)
    x = op.transpose(x, constant_int([0, 2, 4, 1, 3, 5]))
    return op.reshape(x, constant_int([0, rows * columns, -1]), True)


def _postprocess(logits: Node, target: Target, calibration: Calibration) -> Node:
    """Apply `megavit.model.outputs.logits.logits_to_outputs`."""
    if target.kind == "regression":
        score = op.squeeze(logits, constant_int([1]))
        return op.add(op.multiply(score, np.float32(target.std)), np.float32(target.mean))
    scaled = op.divide(logits, np.float32(calibration.temperature))
    if target.kind == "multilabel":
        return op.sigmoid(scaled)
    probabilities = op.softmax(scaled, 1)
    if not calibration.smoothing:
        return probabilities
    classes = probabilities.get_output_partial_shape(0)[1].get_length()
    unsmoothed = op.maximum(
        op.subtract(probabilities, np.float32(calibration.smoothing / classes)), np.float32(MIN_PROBABILITY)
    )
    return op.divide(unsmoothed, op.reduce_sum(unsmoothed, constant_int([1]), True))


def _distance(embedding: Node, ood: MahalanobisOOD) -> Node:
    centered = op.subtract(embedding, constant(ood.center))
    whitened = op.matmul(centered, constant(ood.whitening), False, False)
    difference = op.subtract(op.unsqueeze(whitened, constant_int([1])), constant(ood.groups))
    squares = op.reduce_sum(op.multiply(difference, difference), constant_int([2]), False)
    return op.sqrt(op.reduce_min(squares, constant_int([1]), False))


def _by_channel(value: float | tuple[float, ...], channels: int) -> Node:
    return constant(graph.per_channel(value, channels)[None, :, None, None])


def resize_and_crop(pixels: Node, preprocessing: Preprocessing) -> Node:
    """Map uint8 (B, H, W, `input_channels`) to (B, C, height, width) float32 in [0, 255]."""
    x = _to_float(op.transpose(pixels, constant_int([0, 3, 1, 2])))
    shape = op.shape_of(pixels)
    sides = [op.gather(shape, constant_int(axis), constant_int(0)) for axis in (1, 2)]
    sizes = (preprocessing.height, preprocessing.width)
    down, across = (
        _interpolation_weights(
            side, resized, (_crop_start(resized, crop, preprocessing.crop_rounding), count), preprocessing
        )
        for side, resized, crop, count in zip(
            sides, _resized_sides(sides, preprocessing), preprocessing.crop_hw, sizes, strict=True
        )
    )
    if preprocessing.resize_dtype == "float32":
        x = op.matmul(x, between(across, 1, None, axis=0), False, True)
        return op.matmul(between(down, 1, None, axis=0), x, False, False)
    across, across_factor = _quantize_weights(across)
    x = _divide(op.matmul(x, across, False, True), across_factor)
    down, down_factor = _quantize_weights(down)
    x = _divide(op.matmul(down, x, False, False), down_factor)
    if preprocessing.channels != 1:
        return x
    red, green, blue = (op.multiply(between(x, i, i + 1), np.float32(share)) for i, share in enumerate(LUMA))
    return op.floor(op.divide(op.add(op.add(op.add(red, green), blue), np.float32(2**15)), np.float32(2**16)))


def _crop_start(side: Node, crop: int, rounding: CropRounding) -> Node:
    """Return the first pixel of a center crop: see `megavit.config.preprocessing.crop_start`."""
    margin, two = op.subtract(side, constant_int(crop)), constant_int(2)
    half = op.divide(margin, two)
    return half if rounding == "floor" else op.add(half, op.multiply(op.mod(margin, two), op.mod(half, two)))


def _interpolation_weights(
    in_size: Node, out_size: Node, window: tuple[Node, int], preprocessing: Preprocessing
) -> Node:
    start, count = window
    source = _range(in_size)
    target = op.concat([constant_int([0]), op.add(_range(constant_int(count)), start)], 0)
    distance = op.subtract(
        op.unsqueeze(op.multiply(_centers(source), out_size), constant_int([0])),
        op.unsqueeze(op.multiply(_centers(target), in_size), constant_int([1])),
    )
    scale = op.multiply(op.maximum(in_size, out_size), constant_int(2))
    x = op.abs(op.divide(_to_float(distance), _to_float(scale)))
    if preprocessing.interpolation == "bilinear":
        weights = op.relu(op.subtract(np.float32(1), x))
    else:
        near = _polynomial(x, CUBIC + 2, -CUBIC - 3, 0, 1)
        far = _polynomial(x, CUBIC, -5 * CUBIC, 8 * CUBIC, -4 * CUBIC)
        beyond = op.select(op.less(x, np.float32(2)), far, np.float32(0))
        weights = op.select(op.less(x, np.float32(1)), near, beyond)
    return op.divide(weights, op.reduce_sum(weights, constant_int([1]), True))


def _quantize_weights(weights: Node) -> tuple[Node, Node]:
    # Integers are not rounded to 16 bits.
    powers = _to_float(constant_int([2**bits for bits in range(1, MAX_SHIFT + 1)]))
    largest = op.reduce_max(weights, constant_int([0, 1]), False)
    fits = op.less(_round(op.multiply(powers, largest)), np.float32(MAX_WEIGHT))
    factor = op.reduce_max(op.select(fits, powers, np.float32(1)), constant_int([0]), False)
    weights = between(weights, 1, None, axis=0)
    return op.multiply(op.sign(weights), _round(op.multiply(op.abs(weights), factor))), factor


def _resized_sides(sides: list[Node], preprocessing: Preprocessing) -> list[Node]:
    size = preprocessing.resize
    if isinstance(size, int):
        shorter = op.minimum(*sides)
        return [op.divide(op.multiply(side, constant_int(size)), shorter) for side in sides]
    return [constant_int(side) for side in (size or (preprocessing.height, preprocessing.width))]


def _divide(sums: Node, factor: Node) -> Node:
    return op.clamp(_round(op.divide(sums, factor)), 0.0, 255.0)


def _round(x: Node) -> Node:
    return op.floor(op.add(x, np.float32(0.5)))


def _polynomial(x: Node, *coefficients: float) -> Node:
    first, *rest = coefficients
    value: Any = np.float32(first)
    for coefficient in rest:
        value = op.add(op.multiply(x, value), np.float32(coefficient))
    return value


def _range(count: Node) -> Node:
    return op.range(constant_int(0), count, constant_int(1), "i64")


def _centers(indices: Node) -> Node:
    return op.add(op.multiply(indices, constant_int(2)), constant_int(1))


def _to_float(x: Node) -> Node:
    return op.convert(x, np.float32)
