"""Leave out the last layers of pretrained weights, which a task that is not classification has shaped."""

from dataclasses import replace

import torch

from megavit.weights.pretrained.pretrained import PretrainedModel

LAYERS = "transformer.layers."


def keep_layers(pretrained: PretrainedModel, layers: int) -> PretrainedModel:
    """Return the first layers of weights without a head, with the class token and the mean of the patches as features.

    The norm after the layers, whose factors are for the last one, becomes one without factors.
    """
    config = replace(pretrained.config, depth=layers, num_classes=0, pool="cls_mean")
    tensors = {
        name: tensor
        for name, tensor in pretrained.tensors.items()
        if not name.startswith(LAYERS) or int(name.removeprefix(LAYERS).partition(".")[0]) < layers
    }
    tensors |= {"norm.weight": torch.ones(config.dim), "norm.bias": torch.zeros(config.dim)}
    return replace(pretrained, config=config, tensors=tensors)
