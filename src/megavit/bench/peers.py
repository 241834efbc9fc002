"""Build the same Vision Transformer with other installed libraries."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from megavit.config.vit import ViTConfig


def get_installed_peers(config: ViTConfig) -> dict[str, Callable[[ViTConfig], nn.Module]]:
    """Return the functions that build the model, by name, for the installed peers that support the config."""
    peers = {name: build for name, (package, build) in PEERS.items() if find_spec(package) is not None}
    if config.channels != 3:
        peers.pop("torchvision", None)  # torchvision's model has a fixed number of channels
    return peers


def fits_peers(config: ViTConfig) -> bool:
    """Return whether the peers support the config: square images and patches, heads that split `dim`, class token."""
    square = len({*config.image_hw}) == 1 and len({*config.patch_hw}) == 1
    return square and config.pool == "cls" and config.heads * config.dim_head == config.dim and config.num_classes > 0


def _timm(config: ViTConfig) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=config.image_hw[0],
        patch_size=config.patch_hw[0],
        in_chans=config.channels,
        num_classes=config.num_classes,
        embed_dim=config.dim,
        depth=config.depth,
        num_heads=config.heads,
        mlp_ratio=config.mlp_dim / config.dim,
    )


def _vit_pytorch(config: ViTConfig) -> nn.Module:
    from vit_pytorch import ViT

    return ViT(**_common_arguments(config))


def _torchvision(config: ViTConfig) -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(
        image_size=config.image_hw[0],
        patch_size=config.patch_hw[0],
        num_layers=config.depth,
        num_heads=config.heads,
        hidden_dim=config.dim,
        mlp_dim=config.mlp_dim,
        num_classes=config.num_classes,
    )


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).logits


def _transformers(config: ViTConfig) -> nn.Module:
    from transformers import ViTConfig as TheirConfig
    from transformers import ViTForImageClassification

    theirs = TheirConfig(
        image_size=config.image_hw[0],
        patch_size=config.patch_hw[0],
        num_channels=config.channels,
        num_labels=config.num_classes,  # pyrefly: ignore[unexpected-keyword]
        hidden_size=config.dim,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        intermediate_size=config.mlp_dim,
    )
    return _Logits(ViTForImageClassification(theirs))


def _zetascale(config: ViTConfig) -> nn.Module:
    from zeta.models import MegaVit

    return MegaVit(**_common_arguments(config))


def _common_arguments(config: ViTConfig) -> dict[str, Any]:
    names = ("num_classes", "dim", "depth", "heads", "mlp_dim", "channels", "dim_head")
    sides = {"image_size": config.image_hw[0], "patch_size": config.patch_hw[0]}
    return sides | {name: getattr(config, name) for name in names}


PEERS: dict[str, tuple[str, Callable[[ViTConfig], nn.Module]]] = {
    "timm": ("timm", _timm),
    "vit-pytorch": ("vit_pytorch", _vit_pytorch),
    "torchvision": ("torchvision", _torchvision),
    "transformers": ("transformers", _transformers),
    "zetascale": ("zeta.nn", _zetascale),
}
