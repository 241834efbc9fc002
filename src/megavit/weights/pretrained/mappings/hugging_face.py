"""What Hugging Face's Vision Transformers have in common: how their config.json and their names are read.

A checkpoint there may be a bare image tower, a tower under a prefix beside a classifier, or the tower of a larger
model, and the names inside of it changed with transformers 5, whose files keep the old ones. Each table has the names
of the files, without a prefix.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from megavit.config.vit import ViTConfig, pair
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule

Settings = Mapping[str, Any]

# hidden_act -> Design.mlp
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu2": "relu2",
}


# model_type -> why no table here is for it.
REASONS = {
    name: reason
    for names, reason in (
        (("beit", "data2vec-vision"), "its attention adds learned biases of relative positions"),
        (
            ("swin", "swinv2", "swin2sr", "donut-swin", "maskformer-swin", "hiera", "pvt", "pvt_v2", "levit", "cvt"),
            "its layers have several resolutions",
        ),
        (("mobilevit", "mobilevitv2", "convnext", "convnextv2", "focalnet", "efficientformer"), "it has convolutions"),
        (("siglip2", "siglip2_vision_model"), "it takes patches of any number, with positions made for each image"),
        (("xclip", "timesformer", "videomae", "vivit", "vjepa2", "videoprism"), "it reads the frames of a video"),
        (("vilt", "flava", "flava_image_model", "bridgetower", "udop"), "it reads a text along with the image"),
        (("yolos", "owlvit", "owlv2", "sam", "sam2", "vitdet", "eomt", "rf_detr_dinov2"), "it answers for places"),
        (("clipseg", "dpt", "seggpt", "vitpose", "vitpose_backbone", "sapiens2"), "it answers for every pixel"),
        (("mlcd", "mlcd_vision_model", "pixtral"), "its positions are rotary otherwise"),
    )
    for name in names
}


def defaults_of(settings: Settings, types: Mapping[str, Settings]) -> Settings:
    """Return what a config.json that leaves everything out means, by its model_type.

    Args:
        settings: of the model.
        types: what each model_type that a table is for has by default.

    Raises:
        BundleError: for another model_type, or none.
    """
    name = settings.get("model_type")
    if name not in types:
        raise BundleError(refusal(name, tuple(types)))
    return types[name]


def refusal(name: Any, read: Sequence[str]) -> str:
    """Return the message for a model_type that is none of those that are `read`."""
    reason = f": {REASONS[name]}" if name in REASONS else ""
    what = f"model_type {name!r}, and megavit has no such model{reason}" if name else "no model_type"
    return f"config.json has {what}; here are read {', '.join(read)}"


def bare_names(
    found: Iterable[str], prefixes: Sequence[str], renamed: Mapping[str, str], left_out: Sequence[str]
) -> dict[str, str]:
    """Of the tensors `found` in a checkpoint, those of the image tower: name -> name in the table.

    Args:
        found: names in the checkpoint.
        prefixes: of the tower in larger models, each taken off.
        renamed: regular expressions of names without prefix, and what the files have instead.
        left_out: regular expressions of what is no part of the model, matched where such a name begins.

    Raises:
        BundleError: when two names mean the same tensor.
    """
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in found:
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        bare = name.removeprefix(prefix)
        for pattern, replacement in renamed.items():
            bare = re.sub(pattern, replacement, bare)
        if any(re.match(pattern, bare) for pattern in left_out):
            continue
        if bare in taken:
            raise BundleError(f"the checkpoint has {taken[bare]} and {name}, which are the same tensor; keep one")
        names[name], taken[bare] = bare, name
    return names


def known_from(settings: Settings, defaults: Settings) -> dict[str, Any]:
    """What all of their configs say alike; what a config.json leaves out has its default.

    Raises:
        BundleError: for what the model cannot be.
        ConfigError: for an image size that is none.
    """
    settings = {**defaults, **settings}
    act = settings["hidden_act"]
    if act not in ACTIVATIONS:
        raise BundleError(f"config.json has hidden_act {act!r}, which megavit lacks; it has {', '.join(ACTIVATIONS)}")
    said = {
        "heads": whole(settings, "num_attention_heads"),
        "depth": whole(settings, "num_hidden_layers"),
        "norm_eps": settings["layer_norm_eps"],
        "mlp": ACTIVATIONS[act],
    }
    # None leaves it to the number of positions.
    return said if settings["image_size"] is None else said | {"image_size": pair("image_size", settings["image_size"])}


def whole(settings: Settings, name: str) -> int:
    """A setting that is a whole number from 1.

    Raises:
        BundleError: when it is anything else.
    """
    value = settings[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BundleError(f"config.json has {name} {value!r}, expected a whole number from 1")
    return value


def require(settings: Settings, needed: Settings) -> None:
    """That settings, where they are given, are those that the model has.

    Raises:
        BundleError: for the first that is another.
    """
    for name, value in needed.items():
        if name in settings and settings[name] != value:
            raise BundleError(f"config.json has {name} {settings[name]!r}; megavit's model has only {value!r}")


def side_by_side(config: ViTConfig, layer: str, names: Sequence[str], biases: Sequence[bool]) -> list[list[Piece]]:
    """Pieces of a layer's query, key and value by their `names`: those of the weights, then those of the biases.

    Args:
        config: of the model.
        layer: what the names begin with, up to the dot.
        names: of the three projections.
        biases: which of them are stored; the others are 0.
    """
    dim, inner = config.dim, config.heads * config.dim_head
    weights = [Piece(f"{layer}.{name}.weight", (inner, dim)) for name in names]
    return [
        weights,
        [
            Piece(f"{layer}.{name}.bias" if stored else None, (inner,))
            for name, stored in zip(names, biases, strict=True)
        ],
    ]


def query_key_value(
    config: ViTConfig, layers: str, names: Sequence[str], biases: Sequence[bool] = (True, True, True)
) -> list[Rule]:
    """Their three projections are our one, in every layer; `layers` has {i} for its number."""
    rules = []
    for i in range(config.depth):
        weights, stored = side_by_side(config, layers.replace("{i}", str(i)), names, biases)
        ours = f"transformer.layers.{i}.attention.to_qkv"
        rules.append(Rule(weights, [ours + ".weight"]))
        if config.design.qkv_bias:
            rules.append(Rule(stored, [ours + ".bias"]))
    return rules
