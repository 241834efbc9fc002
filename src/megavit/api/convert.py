"""Convert models of other libraries into bundles, and bundles into theirs, from Python."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from megavit.config.target import TargetKind
from megavit.config.vit import Pool, Size
from megavit.errors import ConfigError
from megavit.weights.pretrained.outputs import check_class_names, read_class_names
from megavit.weights.pretrained.pretrained import MEGAVIT, load_pretrained
from megavit.weights.pretrained.save_checkpoint import save_pretrained
from megavit.weights.pretrained.to_bundle import convert_to_bundle
from megavit.weights.text_tower.load import load_text_encoder
from megavit.weights.text_tower.zero_shot import classify_by_text

Format = Literal["bundle", "timm", "huggingface"]


@dataclass(frozen=True)
class Conversion:
    """A converted model.

    Attributes:
        folder: folder that was written.
        format, source_format: its format, and that of the source.
        image_size: height and width of the model's images in pixels.
        target: kind of its prediction; None for a model without a head.
        notes: sentences on what was assumed, changed or left out.
    """

    folder: Path
    format: Format
    source_format: str
    image_size: tuple[int, int]
    target: TargetKind | None
    notes: tuple[str, ...]

    def __fspath__(self) -> str:
        return os.fspath(self.folder)

    def to_dict(self) -> dict[str, Any]:
        """Return the conversion as plain JSON types."""
        return {
            "out": str(self.folder),
            "format": self.format,
            "source_format": self.source_format,
            "image_size": list(self.image_size),
            "notes": list(self.notes),
            "target": self.target,
        }


def convert(
    source: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    to: Format = "bundle",
    class_names: str | os.PathLike[str] | Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    state_dict: str | None = None,
    num_heads: int | None = None,
    activation: str | None = None,
    norm_eps: float | None = None,
    pool: Pool | None = None,
    norm: str | None = None,
    image_size: Size | None = None,
    patch_size: Size | None = None,
    channels: int | None = None,
    target: TargetKind | None = None,
    drop_calibration: bool = False,
) -> Conversion:
    """Convert a Vision Transformer of another library into a bundle, or a bundle into theirs.

    Reads plain ViTs of timm, Hugging Face, torchvision, OpenCLIP, DINOv2, DINOv3, big_vision, vit-pytorch and zeta.
    Nothing in a checkpoint is executed.

    Args:
        source: checkpoint file or folder of another library, timm:NAME, hf-hub:USER/NAME, or a bundle or `Run`.
        out: new folder for the converted model.
        to: "bundle", "timm" or "huggingface".
        class_names: the class names, or a file with one per line or JSON (a list, or index to name).
        classes: names of classes that the bundle is to tell by their texts, without having seen an image of them; for
            folders of CLIP or SigLIP models with both towers, in the layout of Hugging Face's transformers.
        state_dict: key of the weights in a file with several state dicts, such as model_ema.
        num_heads, activation, norm_eps, pool, norm, image_size, target: what the files do not say; sizes in pixels, as
            a number or (height, width).
        patch_size, channels: for checkpoints of vit-pytorch.
        drop_calibration: leave out a calibration that the format cannot express.

    Raises:
        BundleError, ConfigError: if the source cannot be read, or not be written in this format.
        OutputError: if `out` exists or cannot be written.
    """
    if classes is not None and (to != "bundle" or class_names is not None):
        raise ConfigError("--classes is only for bundles, and names all classes: leave out --to and --class-names")
    if drop_calibration and to == "bundle":
        raise ConfigError("--drop-calibration is only for --to timm and --to huggingface: leave it out")
    options: dict[str, Any] = {
        "heads": num_heads,
        "mlp": activation,
        "norm_eps": norm_eps,
        "pool": pool,
        "norm": norm,
        "image_size": image_size,
        "patch_size": patch_size,
        "channels": channels,
    }
    known = {name: value for name, value in options.items() if value is not None}
    name, folder = os.fspath(source), Path(out)
    encoder = None if classes is None else load_text_encoder(Path(name))
    pretrained = load_pretrained(name, known, state_dict=state_dict, target=target)
    if encoder is not None:
        pretrained = classify_by_text(pretrained, encoder, classes or ())
    if class_names is not None:
        if pretrained.format == MEGAVIT:
            raise ConfigError(f"{name} is a bundle, which has its own class names: leave out --class-names")
        count = pretrained.config.num_classes
        is_file = isinstance(class_names, str | os.PathLike)
        labels = read_class_names(Path(class_names), count) if is_file else check_class_names(class_names, count)
        pretrained = replace(pretrained, labels=labels)
    notes = list(pretrained.notes)
    if to == "bundle":
        convert_to_bundle(pretrained, folder)
    else:
        notes += save_pretrained(to, pretrained, folder, calibrated=not drop_calibration)
    return Conversion(
        folder=folder,
        format=to,
        source_format=pretrained.format,
        image_size=pretrained.config.image_hw,
        target=pretrained.target.kind if pretrained.config.num_classes else None,
        notes=tuple(notes),
    )
