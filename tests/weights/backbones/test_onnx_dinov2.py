"""A DINOv2 is read from an ONNX graph as it was before its export."""

import pytest
import torch
from onnx import helper

from megavit.errors import BundleError
from megavit.weights.backbones.onnx_dinov2 import read_onnx_dinov2
from tests.helpers.backbones import DEPTH, DIM, GRID, PATCH, make_dinov2, make_onnx


def test_every_tensor_comes_back_by_its_name() -> None:
    model = make_dinov2()
    tensors, config = read_onnx_dinov2(make_onnx(model))
    expected = model.state_dict()
    assert tensors.keys() == expected.keys()
    del tensors["embeddings.mask_token"]  # of no use to a classifier
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())
    assert (config["hidden_size"], config["num_hidden_layers"], config["patch_size"]) == (DIM, DEPTH, PATCH)
    assert config["image_size"] == GRID * PATCH and config["mlp_ratio"] == model.config.mlp_ratio


@pytest.mark.parametrize(
    "content", [b"no graph", helper.make_model(helper.make_graph([], "", [], [])).SerializeToString()]
)
def test_another_graph_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="no DINOv2 model under"):
        read_onnx_dinov2(content)
