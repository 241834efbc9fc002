"""`megavit convert`."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from megavit.config.target import TargetKind
from megavit.errors import ConfigError

Format = Literal["bundle", "timm", "huggingface"]
Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu2"]
Pool = Literal["cls", "mean"]
Norm = Literal["layer", "rms"]


def convert(
    source: Annotated[
        str, Parameter(help="Checkpoint or folder of another library, timm:NAME, hf-hub:USER/NAME, or a bundle.")
    ],
    /,
    *,
    out: Annotated[Path, Parameter(help="New folder.")],
    to: Annotated[Format, Parameter(help="What to write: a bundle, or another library's model.")] = "bundle",
    labels: Annotated[
        Path | None, Parameter(help="File of the classes' names: one a line, or JSON (a list, or number to name).")
    ] = None,
    weights: Annotated[str | None, Parameter(help="Which, where a file has several, such as model_ema.")] = None,
    heads: Annotated[int | None, Parameter(help="Attention heads, where the files do not tell.")] = None,
    activation: Annotated[Activation | None, Parameter(help="Activation of the MLP, likewise.")] = None,
    eps: Annotated[float | None, Parameter(help="Epsilon of the norms, likewise.")] = None,
    pool: Annotated[Pool | None, Parameter(help="By class token or mean of the patches, likewise.")] = None,
    norm: Annotated[Norm | None, Parameter(help="LayerNorm or RMSNorm, likewise.")] = None,
    image_size: Annotated[str | None, Parameter(help="Pixels a side, or HEIGHTxWIDTH, likewise.")] = None,
    patch_size: Annotated[str | None, Parameter(help="Of vit-pytorch: pixels a side, or HEIGHTxWIDTH.")] = None,
    channels: Annotated[int | None, Parameter(help="Of vit-pytorch: channels of an image.")] = None,
    target: Annotated[
        TargetKind | None,
        Parameter(help="What the outputs mean: classes, labels or score, if the files do not tell."),
    ] = None,
    uncalibrated: Annotated[
        bool, Parameter(help="Leave out a calibration that timm or huggingface cannot have.", negative="")
    ] = False,
    json: Annotated[bool, Parameter(help="Print the result as JSON.", negative="")] = False,
) -> None:
    """Turn another library's Vision Transformer into a bundle, or a bundle into theirs.

    Read are the plain ones of timm, Hugging Face, torchvision, OpenCLIP, DINOv2
    and DINOv3, big_vision, vit-pytorch and zeta. Nothing in a checkpoint is
    executed.

    For example: megavit convert timm:vit_small_patch16_224.augreg_in1k --out vit-small
    """
    from megavit.cli.console import notes, print_json, results
    from megavit.weights.pretrained.heads.class_names import read_class_names
    from megavit.weights.pretrained.pretrained import OURS, load_pretrained
    from megavit.weights.pretrained.save_checkpoint import save_pretrained
    from megavit.weights.pretrained.to_bundle import convert_to_bundle

    given: dict[str, Any] = {
        "heads": heads,
        "mlp": activation,
        "norm_eps": eps,
        "pool": pool,
        "norm": norm,
        "image_size": None if image_size is None else size_of("--image-size", image_size),
        "patch_size": None if patch_size is None else size_of("--patch-size", patch_size),
        "channels": channels,
    }
    if uncalibrated and to == "bundle":
        raise ConfigError("--uncalibrated is for --to timm and --to huggingface: leave it out")
    known = {name: value for name, value in given.items() if value is not None}
    read = load_pretrained(source, known, weights=weights, target=target)
    if labels is not None:
        if read.format == OURS:
            raise ConfigError(f"{source} is a bundle, which names its classes itself; leave --labels out")
        read = replace(read, labels=read_class_names(labels, read.config.num_classes))
    told = list(read.notes)
    if to == "bundle":
        convert_to_bundle(read, out)
    else:
        told += save_pretrained(to, read, out, calibrated=not uncalibrated)
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
