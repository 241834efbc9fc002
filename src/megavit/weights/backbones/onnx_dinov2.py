"""Read the weights of Hugging Face's Dinov2Model from an ONNX graph in which PyTorch's exporter has renamed some."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megavit.errors import BundleError

CONFIG, PROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
# Prefix of the model's names in the graph.
PREFIX = "backbone."
# Width of a head in every DINOv2 model (arXiv 2304.07193, table 16).
HEAD_DIM = 64


def read_onnx_dinov2(content: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors by Hugging Face's names, and the config.json; a BundleError is raised for another graph."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        graph = onnx.load_from_string(content).graph
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        arrays = {name.removeprefix(PREFIX): value for name, value in values.items() if name.startswith(PREFIX)}
        patches = arrays["embeddings.patch_embeddings.projection.weight"]
        dim, patch_size = patches.shape[0], patches.shape[-1]
        arrays["embeddings.position_embeddings"] = _positions(values, dim)
        arrays["embeddings.mask_token"] = np.zeros((1, dim), np.float32)
        arrays |= _matrices(graph, values)
    except (DecodeError, LookupError, ValueError, TypeError) as error:
        raise BundleError(f"the ONNX file has no DINOv2 model under {PREFIX!r}: {error}") from None
    grid = math.isqrt(arrays["embeddings.position_embeddings"].shape[1] - 1)
    config = {
        "architectures": ["Dinov2Model"],
        "model_type": "dinov2",
        "hidden_size": dim,
        "num_attention_heads": dim // HEAD_DIM,
        "num_hidden_layers": sum(name.endswith(".norm1.weight") for name in arrays),
        "mlp_ratio": arrays["encoder.layer.0.mlp.fc1.bias"].shape[0] // dim,
        "image_size": grid * patch_size,
        "patch_size": patch_size,
        "num_channels": patches.shape[1],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "use_swiglu_ffn": False,
    }
    return {name: torch.tensor(np.ascontiguousarray(array)) for name, array in arrays.items()}, config


def _positions(values: dict[str, np.ndarray], dim: int) -> np.ndarray:
    """Return the positions of the class token and the patches, which are constants without the model's names."""
    others = [value for name, value in values.items() if not name.startswith(PREFIX) and value.ndim == 3]
    (token,) = (value for value in others if value.shape == (1, 1, dim))
    (table,) = (value for value in others if value.shape != (1, 1, dim) and value.shape[::2] == (1, dim))
    return np.concatenate([token, table], 1)


def _matrices(graph: Any, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights of linear layers: each is multiplied with the input, and its bias, which has a name, added."""
    additions = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    found = {}
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in values or node.output[0] not in additions:
            continue
        for name in additions[node.output[0]].input:
            if name.startswith(PREFIX) and name.endswith(".bias"):
                found[name.removeprefix(PREFIX).removesuffix("bias") + "weight"] = values[node.input[1]].T
    return found
