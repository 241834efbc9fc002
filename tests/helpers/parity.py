"""Our model with a peer's weights beside the peer's, stage by stage."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from megavit.model.vit import MegaVit
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat
from megavit.weights.pretrained.mappings.config_from_shapes import Overrides
from megavit.weights.pretrained.mappings.key_mapping import their_shapes, to_ours, to_theirs

close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)


def perturb(module: Any) -> Any:
    """Every parameter away from its initial value: norms, biases, positions and scales too."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def get_shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def rename_tensors(peer: CheckpointFormat, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by the names of the peer's table."""
    return {name: tensors[found] for found, name in peer.names(tensors).items()}


def load_ours(peer: CheckpointFormat, tensors: Mapping[str, Tensor], known: Overrides | None = None) -> Any:
    """Our model with the weights of a checkpoint in the peer's layout, none missing and none left over."""
    config = peer.config(get_shapes(tensors), known or {})
    rules = peer.key_rules(config)
    assert their_shapes(rules) == get_shapes(tensors)
    model = MegaVit.from_config(config).eval()
    model.load_state_dict(to_ours(rules, tensors, config))
    return model


def assert_round_trip(peer: CheckpointFormat, tensors: Mapping[str, Tensor], known: Overrides | None = None) -> None:
    """Theirs to ours to theirs is the same to the bit."""
    config = peer.config(get_shapes(tensors), known or {})
    rules = peer.key_rules(config)
    assert their_shapes(rules) == get_shapes(tensors)
    back = to_theirs(rules, to_ours(rules, tensors, config))
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(back[name], tensor), name


def record_outputs(module: Any, stages: Mapping[str, nn.Module], *inputs: Any) -> dict[str, Tensor]:
    """What each of `stages` answers while `module` answers "logits", in the order of the pass."""
    seen: dict[str, Tensor] = {}
    hooks = [
        part.register_forward_hook(lambda _, __, output, stage=stage: seen.update({stage: output.clone()}))
        for stage, part in stages.items()
    ]
    with torch.no_grad():
        seen["logits"] = module(*inputs)
    for hook in hooks:
        hook.remove()
    return seen


def record_our_stages(ours: Any, x: Tensor) -> dict[str, Tensor]:
    """patches, block 0 to the last, norm, pooled, logits."""
    blocks = {f"block {i}": layer for i, layer in enumerate(ours.transformer.layers)}
    seen = record_outputs(ours, {"patches": ours.patch_embedding, **blocks, "norm": ours.norm, "pooled": ours.pool}, x)
    if ours.config.design.final_norm == "pooled":
        seen["pooled"] = seen["norm"]
    return seen


def assert_same_stages(mine: Mapping[str, Tensor], yours: Mapping[str, Tensor]) -> None:
    """At every stage of theirs, at least the patches, each block and the logits among them."""
    blocks = [stage for stage in mine if stage.startswith("block")]
    assert {"patches", *blocks, "logits"} <= yours.keys() <= mine.keys()
    for stage, tensor in yours.items():
        close(mine[stage], tensor, msg=lambda text, stage=stage: f"at stage {stage}: {text}")
