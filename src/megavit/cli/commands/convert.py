"""The command `megavit convert`."""

import re
from pathlib import Path
from typing import Literal

from megavit.cli.options import Json
from megavit.config.target import TargetKind
from megavit.errors import ConfigError

Format = Literal["bundle", "timm", "huggingface"]
Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu2"]
Pool = Literal["cls", "mean"]
Norm = Literal["layer", "rms"]


def convert(
    source: str,
    /,
    *,
    out: Path,
    to: Format = "bundle",
    class_names: Path | None = None,
    classes: str | None = None,
    state_dict: str | None = None,
    num_heads: int | None = None,
    activation: Activation | None = None,
    norm_eps: float | None = None,
    pool: Pool | None = None,
    norm: Norm | None = None,
    image_size: str | None = None,
    patch_size: str | None = None,
    channels: int | None = None,
    target: TargetKind | None = None,
    drop_calibration: bool = False,
    json: Json = False,
) -> None:
    """Convert a Vision Transformer of another library into a bundle, or a bundle into theirs.

    Reads plain ViTs of timm, Hugging Face, torchvision, OpenCLIP, DINOv2,
    DINOv3, big_vision, vit-pytorch and zeta. Nothing in a checkpoint is
    executed.

    For example: megavit convert timm:vit_small_patch16_224.augreg_in1k --out vit-small

    Args:
        source: Checkpoint file or folder of another library, timm:NAME, hf-hub:USER/NAME, or a bundle.
        out: New folder for the converted model.
        to: Format to write.
        class_names: File with the class names: one per line, or JSON (a list, or index to name).
        classes: Classes to tell by their texts, such as cat,dog, with a CLIP or SigLIP model that has both towers.
        state_dict: Key of the weights in a file with several state dicts, such as model_ema.
        num_heads: Number of attention heads, if the files do not say.
        activation: Activation of the MLP, if the files do not say.
        norm_eps: Epsilon of the norm layers, if the files do not say.
        pool: Pooling: class token or mean of the patches, if the files do not say.
        norm: LayerNorm or RMSNorm, if the files do not say.
        image_size: Image size in pixels, or HEIGHTxWIDTH, if the files do not say.
        patch_size: Patch size in pixels, or HEIGHTxWIDTH, for checkpoints of vit-pytorch.
        channels: Number of image channels, for checkpoints of vit-pytorch.
        target: Kind of prediction, if the files do not say.
        drop_calibration: Leave out a calibration that the format of --to cannot express.
    """
    from megavit.api import convert as api
    from megavit.cli.console import notes, print_json, results

    conversion = api.convert(
        source,
        out=out,
        to=to,
        class_names=class_names,
        classes=None if classes is None else [name.strip() for name in classes.split(",")],
        state_dict=state_dict,
        num_heads=num_heads,
        activation=activation,
        norm_eps=norm_eps,
        pool=pool,
        norm=norm,
        image_size=None if image_size is None else parse_size("--image-size", image_size),
        patch_size=None if patch_size is None else parse_size("--patch-size", patch_size),
        channels=channels,
        target=target,
        drop_calibration=drop_calibration,
    )
    if json:
        print_json(conversion.to_dict())
        return
    for sentence in conversion.notes:
        notes.print(sentence)
    kind = {"bundle": "a bundle", "timm": "for timm", "huggingface": "for Hugging Face's transformers"}[to]
    height, width = conversion.image_size
    results.print(f"{out}: {kind}, for images of {height} × {width} pixels")


def parse_size(flag: str, text: str) -> int | tuple[int, int]:
    """Return a size such as 224, or 160x320 as (160, 320), in pixels; errors name the `flag`."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if match is None:
        raise ConfigError(f"{flag} must be a size in pixels such as 224, or 160x320 (height × width); got {text!r}")
    return (int(match[1]), int(match[2])) if match[2] else int(match[1])
