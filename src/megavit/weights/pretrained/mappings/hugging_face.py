"""Read config.json of Hugging Face's Vision Transformers, with helpers for their key mappings."""

from collections.abc import Mapping, Sequence
from typing import Any

from megavit.config.vit import pair
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.checkpoint_format import Settings
from megavit.weights.pretrained.mappings.key_mapping import KeyRule, rule

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


# model_type -> why it is unsupported.
REASONS = {
    name: reason
    for names, reason in (
        (("beit", "data2vec-vision"), "its attention adds learned biases of relative positions"),
        (
            ("swin", "swinv2", "swin2sr", "donut-swin", "maskformer-swin", "hiera", "pvt", "pvt_v2", "levit", "cvt"),
            "its layers have several resolutions",
        ),
        (("mobilevit", "mobilevitv2", "convnext", "convnextv2", "focalnet", "efficientformer"), "it has convolutions"),
        (("siglip2", "siglip2_vision_model"), "it takes any number of patches, with positions computed for each image"),
        (("xclip", "timesformer", "videomae", "vivit", "vjepa2", "videoprism"), "it reads the frames of a video"),
        (("vilt", "flava", "flava_image_model", "bridgetower", "udop"), "it reads a text along with the image"),
        (("yolos", "owlvit", "owlv2", "sam", "sam2", "vitdet", "eomt", "rf_detr_dinov2"), "it predicts boxes or masks"),
        (
            ("clipseg", "dpt", "seggpt", "vitpose", "vitpose_backbone", "sapiens2"),
            "it predicts a value for every pixel",
        ),
        (("mlcd", "mlcd_vision_model", "pixtral"), "its rotary positions are different"),
    )
    for name in names
}


def get_defaults(settings: Settings, types: Mapping[str, Settings]) -> Settings:
    """Return the default settings of a config.json's model_type; raise a BundleError if it is not in `types`."""
    name = settings.get("model_type")
    if name not in types:
        raise BundleError(unsupported_type(name, tuple(types)))
    return types[name]


def unsupported_type(name: Any, supported: Sequence[str]) -> str:
    """Return the error message for a model_type that is not among those in `supported`."""
    reason = f": {REASONS[name]}" if name in REASONS else ""
    what = f"model_type {name!r}, which megavit does not support{reason}" if name else "no model_type"
    return f"config.json has {what}; supported are {', '.join(supported)}"


def read_common(settings: Settings, defaults: Settings) -> dict[str, Any]:
    """Return the facts that all of Hugging Face's configs share; raise a BundleError or ConfigError if invalid."""
    settings = {**defaults, **settings}
    act = settings["hidden_act"]
    if act not in ACTIVATIONS:
        raise BundleError(
            f"config.json has hidden_act {act!r}, which megavit does not support; it supports {', '.join(ACTIVATIONS)}"
        )
    facts = {
        "heads": read_positive_integer(settings, "num_attention_heads"),
        "depth": read_positive_integer(settings, "num_hidden_layers"),
        "norm_eps": settings["layer_norm_eps"],
        "mlp": ACTIVATIONS[act],
    }
    # None: derived from the number of positions.
    return (
        facts if settings["image_size"] is None else facts | {"image_size": pair("image_size", settings["image_size"])}
    )


def read_positive_integer(settings: Settings, name: str) -> int:
    """Return a setting that must be a positive integer; raise a BundleError if it is not."""
    value = settings[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BundleError(f"config.json has {name} {value!r}, expected a positive integer")
    return value


def require(settings: Settings, needed: Settings) -> None:
    """Raise a BundleError if a setting is present but differs from its value in `needed`."""
    for name, value in needed.items():
        if name in settings and settings[name] != value:
            raise BundleError(f"config.json has {name} {settings[name]!r}; megavit supports only {value!r}")


def qkv_rules(names: str, *, key_bias: bool = True) -> tuple[KeyRule, ...]:
    """Return the rules of the query, key and value projections in `names`, which are separated by ", "."""
    query, key, value = names.split(", ")
    ours = "transformer.layers.{i}.attention.to_qkv"
    biases = [f"{query}.bias: I", f"{key}.bias: I" if key_bias else "0: I", f"{value}.bias: I"]
    return (
        rule([f"{name}.weight: I D" for name in (query, key, value)], f"{ours}.weight"),
        rule(biases, f"{ours}.bias"),
    )
