"""A small ONNX model with the interface of an exported one, whose answers hang on the colors of a picture."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

UNLIKE_FROM = 0.52
LABELS = ["daisy", "rose", "tulip", "iris", "lotus"]


def make_onnx_model(target: str, channels: int) -> bytes:
    """The mean of each channel, and that of its first rows, times a matrix; softmax, sigmoid, or a number.

    Input `pixels`, uint8 (1, height, width, channels). Outputs `probabilities` (1, 5) or `score` (1,), and
    `distance` (1,), the mean of all pixels.
    """
    weights = np.random.default_rng(7).normal(0, 2, (2 * channels, len(LABELS))).astype(np.float32)
    constants = {
        "weights": weights,
        "top": np.float32(255),
        "sides": np.array([1, 2]),
        "last": np.array([1]),
        "none": np.array([0]),
        "rows": np.array([8]),
    }
    if target == "regression":
        constants["weights"] = weights[:, :1]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["whole"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["whole", "top"], ["shares"]),
        helper.make_node("Slice", ["shares", "none", "rows", "last"], ["above"]),
        helper.make_node("ReduceMean", ["shares", "sides"], ["mean"], keepdims=0),
        helper.make_node("ReduceMean", ["above", "sides"], ["first"], keepdims=0),
        helper.make_node("Concat", ["mean", "first"], ["features"], axis=1),
        helper.make_node("MatMul", ["features", "weights"], ["logits"]),
        helper.make_node("ReduceMean", ["mean", "last"], ["distance"], keepdims=0),
    ]
    if target == "regression":
        nodes.append(helper.make_node("Squeeze", ["logits", "last"], ["score"]))
        output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])
    else:
        nodes.append(
            helper.make_node("Softmax" if target == "classification" else "Sigmoid", ["logits"], ["probabilities"])
        )
        output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(LABELS)])
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", "height", "width", channels])],
        [output, helper.make_tensor_value_info("distance", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def make_metadata(target: str, channels: int, **changes: Any) -> dict[str, Any]:
    """What an export writes beside it."""
    is_score = target == "regression"
    return {
        "format": 1,
        "name": "garden",
        "target": target,
        "labels": [] if is_score else LABELS,
        "thresholds": [0.1, 0.3, 0.25, 0.5, 0.9] if target == "multilabel" else None,
        "ood_threshold": UNLIKE_FROM,
        "sets": {"0.9": [0.4] * 5, "0.95": [0.7, 0.9, 0.2, 0.9, 0.8]} if target == "classification" else None,
        "intervals": {"0.95": 1.25} if is_score else None,
        "channels": channels,
        "height": 32,
        "width": 32,
        "precision": "float32",
    } | changes
