"""Initialize a model from pretrained weights with another image size, number of classes or channels."""

import torch
from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.model.pos_embed import LearnedPositions
from megavit.model.vit import MegaVit
from megavit.weights.bundle.safetensors_io import shape_faults
from megavit.weights.pretrained.pretrained import PretrainedModel

HEAD, TABLE, PATCHES = "mlp_head.", "positions.table", "patch_embedding.projection.weight"


def initialize_from(model: MegaVit, pretrained: PretrainedModel, *, head: bool = False) -> list[str]:
    """Load pretrained weights into `model` in place, and return sentences on what was changed or not loaded.

    The models may differ in image size (learned positions are resampled as in `LearnedPositions.at`), in the number of
    classes, and in channels: for one channel, the patch embedding is summed over its input channels. The classifier is
    loaded only if `head` is true.

    Raises:
        BundleError: if weights do not fit, with a list of them; the model is then unchanged.
    """
    tensors = dict(pretrained.tensors)
    with torch.device("meta"):
        own = MegaVit.from_config(pretrained.config).state_dict()
    _check(tensors if head else _without_head(tensors), own if head else _without_head(own), pretrained.name)
    old, new = pretrained.config, model.config
    notes: list[str] = []
    if TABLE in tensors and old.grid != new.grid:
        tensors[TABLE] = _resampled(tensors[TABLE], old, new)
        (rows, columns), (new_rows, new_columns) = old.grid, new.grid
        notes.append(f"positions resampled from {rows} × {columns} to {new_rows} × {new_columns} patches")
    if old.channels != new.channels:
        if new.channels != 1:
            raise BundleError(
                f"the weights of {pretrained.name} are for images of {old.channels} channels, and can only be adapted "
                f"to 1 channel, not to {new.channels}: leave out model.channels, or use images of {old.channels} "
                "channels"
            )
        # The weight is (D, channels × pixels).
        tensors[PATCHES] = tensors[PATCHES].unflatten(1, (old.channels, -1)).sum(dim=1)
        notes.append(f"the patch embedding summed over its {old.channels} channels, for gray images")
    expected = model.state_dict()
    if not head:
        own = {name: tensor for name, tensor in expected.items() if name.startswith(HEAD)}
        tensors = _without_head(tensors) | own
        notes += [f"a new head with {model.config.num_classes} outputs"] if own else []
    _check(tensors, expected, pretrained.name)
    model.load_state_dict(tensors)
    return notes


def _without_head(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(HEAD)}


def _check(tensors: dict[str, Tensor], expected: dict[str, Tensor], name: str) -> None:
    faults = shape_faults(tensors, expected)
    if faults:
        raise BundleError("\n".join([f"the weights of {name} do not fit the model:", *faults]))


@torch.no_grad()
def _resampled(table: Tensor, old: ViTConfig, new: ViTConfig) -> Tensor:
    positions = LearnedPositions(old)
    positions.table.copy_(table)
    return positions.at(new.grid).clone()
