"""`megavit convert`."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from megavit.cli.options import Json
from megavit.config.target import TargetKind
from megavit.errors import ConfigError

Format = Literal["bundle", "timm", "huggingface"]
Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu2"]
Pool = Literal["cls", "mean"]
Norm = Literal["layer", "rms"]


def convert(
    source: Annotated[
        str, Parameter(help="Checkpoint file or folder of another library, timm:NAME, hf-hub:USER/NAME, or a bundle.")
    ],
    /,
    *,
    out: Annotated[Path, Parameter(help="New folder for the converted model.")],
    to: Annotated[Format, Parameter(help="Format to write.")] = "bundle",
    class_names: Annotated[
        Path | None, Parameter(help="File with the class names: one per line, or JSON (a list, or index to name).")
    ] = None,
    state_dict: Annotated[
        str | None, Parameter(help="Key of the weights in a file with several state dicts, such as model_ema.")
    ] = None,
    num_heads: Annotated[int | None, Parameter(help="Number of attention heads, if the files do not say.")] = None,
    activation: Annotated[Activation | None, Parameter(help="Activation of the MLP, if the files do not say.")] = None,
    norm_eps: Annotated[float | None, Parameter(help="Epsilon of the norm layers, if the files do not say.")] = None,
    pool: Annotated[
        Pool | None, Parameter(help="Pooling: class token or mean of the patches, if the files do not say.")
    ] = None,
    norm: Annotated[Norm | None, Parameter(help="LayerNorm or RMSNorm, if the files do not say.")] = None,
    image_size: Annotated[
        str | None, Parameter(help="Image size in pixels, or HEIGHTxWIDTH, if the files do not say.")
    ] = None,
    patch_size: Annotated[
        str | None, Parameter(help="Patch size in pixels, or HEIGHTxWIDTH, for checkpoints of vit-pytorch.")
    ] = None,
    channels: Annotated[int | None, Parameter(help="Number of image channels, for checkpoints of vit-pytorch.")] = None,
    target: Annotated[TargetKind | None, Parameter(help="Kind of prediction, if the files do not say.")] = None,
    drop_calibration: Annotated[
        bool, Parameter(help="Leave out a calibration that the format of --to cannot express.")
    ] = False,
    json: Json = False,
) -> None:
    """Convert a Vision Transformer of another library into a bundle, or a bundle into theirs.

    Reads plain ViTs of timm, Hugging Face, torchvision, OpenCLIP, DINOv2,
    DINOv3, big_vision, vit-pytorch and zeta. Nothing in a checkpoint is
    executed.

    For example: megavit convert timm:vit_small_patch16_224.augreg_in1k --out vit-small
    """
    from megavit.cli.console import notes, print_json, results
    from megavit.weights.pretrained.heads.class_names import read_class_names
    from megavit.weights.pretrained.pretrained import OURS, load_pretrained
    from megavit.weights.pretrained.save_checkpoint import save_pretrained
    from megavit.weights.pretrained.to_bundle import convert_to_bundle

    given: dict[str, Any] = {
        "heads": num_heads,
        "mlp": activation,
        "norm_eps": norm_eps,
        "pool": pool,
        "norm": norm,
        "image_size": None if image_size is None else size_of("--image-size", image_size),
        "patch_size": None if patch_size is None else size_of("--patch-size", patch_size),
        "channels": channels,
    }
    if drop_calibration and to == "bundle":
        raise ConfigError("--drop-calibration is for --to timm and --to huggingface: leave it out")
    known = {name: value for name, value in given.items() if value is not None}
    read = load_pretrained(source, known, weights=state_dict, target=target)
    if class_names is not None:
        if read.format == OURS:
            raise ConfigError(f"{source} is a bundle, which names its classes itself; leave --class-names out")
        read = replace(read, labels=read_class_names(class_names, read.config.num_classes))
    told = list(read.notes)
    if to == "bundle":
        convert_to_bundle(read, out)
    else:
        told += save_pretrained(to, read, out, calibrated=not drop_calibration)
    height, width = read.config.image_hw
    facts: dict[str, Any] = {
        "out": str(out),
        "format": to,
        "source_format": read.format,
        "image_size": [height, width],
        "notes": told,
    }
    facts["target"] = read.target.kind if read.config.num_classes else None
    if json:
        print_json(facts)
        return
    for sentence in told:
        notes.print(sentence)
    what = {"bundle": "a bundle", "timm": "for timm", "huggingface": "for Hugging Face's transformers"}[to]
    results.print(f"{out}: {what}, for images of {height} × {width} pixels")


def size_of(flag: str, text: str) -> int | tuple[int, int]:
    """Return 224, or 160x320 as (160, 320); `flag` is for the message."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if found is None:
        raise ConfigError(f"{flag} must be pixels a side, such as 224, or 160x320 (height by width); got {text!r}")
    return (int(found[1]), int(found[2])) if found[2] else int(found[1])
