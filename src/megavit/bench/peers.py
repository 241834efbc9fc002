"""The same Vision Transformer as other libraries build it, where they are installed."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from megavit.config.vit import ViTConfig


def installed(config: ViTConfig) -> dict[str, Callable[[ViTConfig], nn.Module]]:
    """Name -> what builds its ViT of our sizes, for every peer that is installed and has one."""
    have = {name: build for name, (package, build) in PEERS.items() if find_spec(package) is not None}
    if config.channels != 3:
        have.pop("torchvision", None)  # its model has no other number of channels
    return have


def suits(config: ViTConfig) -> bool:
    """Whether the peers have a model of these sizes: square images and patches, heads that share `dim`, class token."""
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

    return ViT(**_named_as_ours(config))


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
    """transformers answers with an object; runtimes and losses want the logits."""

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

    return MegaVit(**_named_as_ours(config))


def _named_as_ours(config: ViTConfig) -> dict[str, Any]:
    """The sizes that some peers call as we do, with one number for a square's sides."""
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
