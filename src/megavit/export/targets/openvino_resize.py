"""`megavit.export.resize` in OpenVINO's operations; that explains what is computed, and why so."""

from typing import Any

import numpy as np
from openvino import opset15 as op

from megavit.config.preprocessing import CropRounding, Preprocessing
from megavit.engine.graph import between, constant_int
from megavit.export.resize import CUBIC, LUMA, MOST_BITS, WEIGHT_LIMIT

Node = Any


def prepared(pixels: Node, preprocessing: Preprocessing) -> Node:
    """uint8 (B, H, W, `input_channels`) -> (B, C, height, width) float32, whole numbers in [0, 255].

    They are not whole where the preprocessing resizes in float32.
    """
    x = _real(op.transpose(pixels, constant_int([0, 3, 1, 2])))
    shape = op.shape_of(pixels)
    have = [op.gather(shape, constant_int(axis), constant_int(0)) for axis in (1, 2)]
    kept = (preprocessing.height, preprocessing.width)
    down, across = (
        _shares(side, resized, (_crop_start(resized, cut, preprocessing.crop_rounding), count), preprocessing)
        for side, resized, cut, count in zip(
            have, _sides(have, preprocessing), preprocessing.crop_hw, kept, strict=True
        )
    )
    if preprocessing.resize_dtype == "float32":
        x = op.matmul(x, between(across, 1, None, axis=0), False, True)
        return op.matmul(between(down, 1, None, axis=0), x, False, False)
    across, across_by = _as_whole_numbers(across)
    x = _divided(op.matmul(x, across, False, True), across_by)
    down, down_by = _as_whole_numbers(down)
    x = _divided(op.matmul(down, x, False, False), down_by)
    if preprocessing.channels != 1:
        return x
    red, green, blue = (op.multiply(between(x, i, i + 1), np.float32(share)) for i, share in enumerate(LUMA))
    return op.floor(op.divide(op.add(op.add(op.add(red, green), blue), np.float32(2**15)), np.float32(2**16)))


def _crop_start(side: Node, cut: int, rounding: CropRounding) -> Node:
    """Return the first pixel of a center crop, as `megavit.config.preprocessing.crop_start`."""
    margin, two = op.subtract(side, constant_int(cut)), constant_int(2)
    half = op.divide(margin, two)
    return half if rounding == "floor" else op.add(half, op.multiply(op.mod(margin, two), op.mod(half, two)))


def _shares(have: Node, side: Node, kept: tuple[Node, int], preprocessing: Preprocessing) -> Node:
    start, count = kept
    source = _numbers(have)
    target = op.concat([constant_int([0]), op.add(_numbers(constant_int(count)), start)], 0)
    apart = op.subtract(
        op.unsqueeze(op.multiply(_odd(source), side), constant_int([0])),
        op.unsqueeze(op.multiply(_odd(target), have), constant_int([1])),
    )
    widest = op.multiply(op.maximum(have, side), constant_int(2))
    x = op.abs(op.divide(_real(apart), _real(widest)))
    if preprocessing.interpolation == "bilinear":
        share = op.relu(op.subtract(np.float32(1), x))
    else:
        near = _polynomial(x, CUBIC + 2, -CUBIC - 3, 0, 1)
        far = _polynomial(x, CUBIC, -5 * CUBIC, 8 * CUBIC, -4 * CUBIC)
        beyond = op.select(op.less(x, np.float32(2)), far, np.float32(0))
        share = op.select(op.less(x, np.float32(1)), near, beyond)
    return op.divide(share, op.reduce_sum(share, constant_int([1]), True))


def _as_whole_numbers(share: Node) -> tuple[Node, Node]:
    # From whole numbers, which nothing rounds to 16 bits.
    powers = _real(constant_int([2**bits for bits in range(1, MOST_BITS + 1)]))
    largest = op.reduce_max(share, constant_int([0, 1]), False)
    small = op.less(_nearest(op.multiply(powers, largest)), np.float32(WEIGHT_LIMIT))
    factor = op.reduce_max(op.select(small, powers, np.float32(1)), constant_int([0]), False)
    share = between(share, 1, None, axis=0)
    return op.multiply(op.sign(share), _nearest(op.multiply(op.abs(share), factor))), factor


def _sides(have: list[Node], preprocessing: Preprocessing) -> list[Node]:
    size = preprocessing.resize
    if isinstance(size, int):
        shorter = op.minimum(*have)
        return [op.divide(op.multiply(side, constant_int(size)), shorter) for side in have]
    return [constant_int(side) for side in (size or (preprocessing.height, preprocessing.width))]


def _divided(sums: Node, factor: Node) -> Node:
    return op.clamp(_nearest(op.divide(sums, factor)), 0.0, 255.0)


def _nearest(x: Node) -> Node:
    return op.floor(op.add(x, np.float32(0.5)))


def _polynomial(x: Node, *coefficients: float) -> Node:
    first, *rest = coefficients
    found: Any = np.float32(first)
    for coefficient in rest:
        found = op.add(op.multiply(x, found), np.float32(coefficient))
    return found


def _numbers(count: Node) -> Node:
    return op.range(constant_int(0), count, constant_int(1), "i64")


def _odd(numbers: Node) -> Node:
    return op.add(op.multiply(numbers, constant_int(2)), constant_int(1))


def _real(x: Node) -> Node:
    return op.convert(x, np.float32)
