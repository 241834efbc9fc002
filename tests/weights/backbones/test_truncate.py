"""The first layers of a backbone, alone, give what they gave before the others followed them."""

from pathlib import Path

import torch
from torch.nn import functional as F

from megavit.model.vit import MegaVit
from megavit.weights.backbones.fetch import load_backbone
from megavit.weights.backbones.truncate import keep_layers
from megavit.weights.pretrained.initialize import initialize_from
from megavit.weights.pretrained.pretrained import PretrainedModel, load_pretrained
from tests.helpers.backbones import DEPTH, HUB, make_folder, make_row


def build(pretrained: PretrainedModel) -> MegaVit:
    model = MegaVit.from_config(pretrained.config)
    initialize_from(model, pretrained)
    return model.eval()


def test_the_features_are_those_after_the_last_layer_that_is_kept(tmp_path: Path) -> None:
    pretrained = load_pretrained(str(make_folder(tmp_path / HUB)), head=False)
    kept, whole = build(keep_layers(pretrained, 1)), build(pretrained)
    assert pretrained.config.depth == DEPTH and kept.config.depth == 1 and len(kept.transformer.layers) == 1
    seen: list[torch.Tensor] = []
    whole.transformer.layers[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole(images)
        found = kept.features(images).pooled
    (tokens,) = seen
    tokens = F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6)
    torch.testing.assert_close(found, torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1))


def test_a_row_of_the_table_says_how_many_layers_are_used(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / HUB)
    config = load_backbone(make_row(HUB, "timm:tiny", layers=1), folder).config
    assert (config.depth, config.pool) == (1, "cls_mean")
    for layers in (None, DEPTH, DEPTH + 1):
        config = load_backbone(make_row(HUB, "timm:tiny", layers=layers), folder).config
        assert (config.depth, config.pool) == (DEPTH, "cls")
