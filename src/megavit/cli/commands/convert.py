"""The command `megavit convert`."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

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
    from megavit.cli.console import notes, print_json, results
    from megavit.weights.pretrained.outputs import read_class_names
    from megavit.weights.pretrained.pretrained import MEGAVIT, load_pretrained
    from megavit.weights.pretrained.save_checkpoint import save_pretrained
    from megavit.weights.pretrained.to_bundle import convert_to_bundle

    options: dict[str, Any] = {
        "heads": num_heads,
        "mlp": activation,
        "norm_eps": norm_eps,
        "pool": pool,
        "norm": norm,
        "image_size": None if image_size is None else parse_size("--image-size", image_size),
        "patch_size": None if patch_size is None else parse_size("--patch-size", patch_size),
        "channels": channels,
    }
    if drop_calibration and to == "bundle":
        raise ConfigError("--drop-calibration is only for --to timm and --to huggingface: leave it out")
    known = {name: value for name, value in options.items() if value is not None}
    pretrained = load_pretrained(source, known, state_dict=state_dict, target=target)
    if class_names is not None:
        if pretrained.format == MEGAVIT:
            raise ConfigError(f"{source} is a bundle, which has its own class names: leave out --class-names")
        pretrained = replace(pretrained, labels=read_class_names(class_names, pretrained.config.num_classes))
    remarks = list(pretrained.notes)
    if to == "bundle":
        convert_to_bundle(pretrained, out)
    else:
        remarks += save_pretrained(to, pretrained, out, calibrated=not drop_calibration)
    height, width = pretrained.config.image_hw
    result: dict[str, Any] = {
        "out": str(out),
        "format": to,
        "source_format": pretrained.format,
        "image_size": [height, width],
        "notes": remarks,
        "target": pretrained.target.kind if pretrained.config.num_classes else None,
    }
    if json:
        print_json(result)
        return
    for sentence in remarks:
        notes.print(sentence)
    kind = {"bundle": "a bundle", "timm": "for timm", "huggingface": "for Hugging Face's transformers"}[to]
    results.print(f"{out}: {kind}, for images of {height} × {width} pixels")


def parse_size(flag: str, text: str) -> int | tuple[int, int]:
    """Return a size such as 224, or 160x320 as (160, 320), in pixels; errors name the `flag`."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if match is None:
        raise ConfigError(f"{flag} must be a size in pixels such as 224, or 160x320 (height × width); got {text!r}")
    return (int(match[1]), int(match[2])) if match[2] else int(match[1])
