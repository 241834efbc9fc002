"""Every model of transformers that reads images in patches: exact, refused by name, or wrong.

    python -m benchmarks.conversion.transformers_models [--out benchmarks/results/conversion/transformers]

Each class whose settings have a patch size is built small, with random weights, saved by `save_pretrained`, and what
megavit reads is compared with the answer of the class itself. A class that cannot be built so small is a row too.
"""

import argparse
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_PRETRAINING_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from benchmarks.conversion.compare import REFUSED, Row, compare_file, perturb_weights, write_report

VISION: dict[str, Any] = {
    "hidden_size": 32,
    "embed_dim": 32,
    "num_hidden_layers": 2,
    "depth": 2,
    "num_attention_heads": 2,
    "num_heads": 2,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
    "projection_dim": 16,
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 48,
    "mask_ratio": 0.0,
    "num_labels": 5,
}
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 100,
    "projection_dim": 16,
    "project_dim": 16,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
TABLES = (MODEL_MAPPING_NAMES, MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES, MODEL_FOR_PRETRAINING_MAPPING_NAMES)
# Classes that are not in transformers' tables.
EXTRA_CLASSES = (
    "CLIPVisionModel",
    "CLIPVisionModelWithProjection",
    "MetaClip2VisionModel",
    "MetaClip2VisionModelWithProjection",
    "ChineseCLIPVisionModel",
    "AltCLIPVisionModel",
    "SiglipVisionModel",
    "DINOv3ViTModel",
    "ViTForMaskedImageModeling",
    "CLIPSegForImageSegmentation",
    "DeiTForImageClassificationWithTeacher",
)
BUILD_ERRORS = (
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    LookupError,
    RuntimeError,
    ArithmeticError,
    ImportError,
    StrictDataclassError,
)
MAX_PARAMETERS = 30_000_000  # so that the sweep fits into any memory


def small_sizes(kind: type[Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `sizes` that a class of settings has."""
    defaults = kind().to_dict()
    if any(isinstance(defaults.get(name), list | tuple) for name in ("num_heads", "num_attention_heads", "depths")):
        return {"num_labels": VISION["num_labels"]}  # several stages, whose sizes depend on each other
    chosen = {name: value for name, value in sizes.items() if name in defaults or name == "num_labels"}
    for name in ("image_size", "patch_size"):
        if isinstance(defaults.get(name), list | tuple) and name in chosen:
            chosen[name] = [chosen[name]] * len(defaults[name])
    return chosen


def make_small_config(model_type: str) -> Any:
    """Return small settings of a model type, with those of its towers."""
    kind: Any = getattr(transformers, CONFIG_MAPPING_NAMES[model_type])
    default = kind()
    arguments = small_sizes(kind, VISION)
    for name, sizes in (("vision_config", VISION), ("text_config", TEXT)):
        part = getattr(default, name, None)
        if part is not None:
            arguments[name] = small_sizes(type(part), sizes) | {"model_type": part.model_type}
            arguments.pop("hidden_size", None)
    return kind(**arguments)


def list_classes() -> Iterator[tuple[str, str]]:
    """Model type and class of everything that has patches."""
    for model_type, name in CONFIG_MAPPING_NAMES.items():
        kind: Any = getattr(transformers, name, None)
        try:
            settings = kind().to_dict()
        except BUILD_ERRORS:
            continue
        vision = settings.get("vision_config")
        if "patch_size" not in settings and not (isinstance(vision, dict) and "patch_size" in vision):
            continue
        seen = set()
        tables = (
            MODEL_MAPPING_NAMES,
            MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
            MODEL_FOR_PRETRAINING_MAPPING_NAMES,
        )
        for table in tables:
            found = table.get(model_type, ())
            seen |= {found} if isinstance(found, str) else set(found)
        seen |= {
            class_name
            for class_name in EXTRA_CLASSES
            if getattr(getattr(transformers, class_name, None), "config_class", None) is kind
        }
        yield from ((model_type, class_name) for class_name in sorted(seen))


def output_functions(model: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[nn.Module, Tensor], Tensor] | None]:
    """Return how the class answers for images, and how ours does for the same."""
    if hasattr(model, "get_image_features"):
        return lambda images: _pooled(model.get_image_features(pixel_values=images)), None
    return lambda images: _peer_output(model, images), _our_output


def _pooled(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output


def _peer_output(model: Any, images: Tensor) -> Tensor:
    if type(model).__name__.endswith(("ForPreTraining", "ForMaskedImageModeling")):
        model = model.vit  # the backbone
    output = model(pixel_values=images)
    for name in ("logits", "image_embeds"):
        if isinstance(output.get(name), Tensor):
            return output[name]
    kind = type(model).__name__
    if kind.startswith(("ViT", "DeiT")):
        return output.last_hidden_state[:, 0]  # before the pooler, which no classifier uses
    if kind.startswith("IJepa"):
        return output.last_hidden_state.mean(dim=1)
    return output.pooler_output


def _our_output(model: nn.Module, images: Tensor) -> Tensor:
    return model(images)


def check_class(model_type: str, name: str, folder: Path) -> Row:
    """Return the row of a class."""
    try:
        model: Any = build_small(model_type, name)
        model.save_pretrained(folder)
    # Each class raises other errors for sizes that it does not support.
    except BUILD_ERRORS:
        # Check its default settings, at least.
        settings: Any = getattr(transformers, CONFIG_MAPPING_NAMES[model_type])()
        settings.save_pretrained(folder)
        save_file({"weight": torch.zeros(1)}, folder / "model.safetensors")
        return compare_file(f"{model_type}: {name}, settings alone", folder, _pooled)
    theirs, ours = output_functions(model)
    try:
        return compare_file(f"{model_type}: {name}", folder, theirs, ours)
    except (ValueError, TypeError, AttributeError, RuntimeError, KeyError) as error:
        return Row(f"{model_type}: {name}", "not compared", None, f"{type(error).__name__}: {str(error)[:150]}")


def build_small(model_type: str, name: str) -> Any:
    """Return the model, small and with random weights."""
    kind: Any = getattr(transformers, name)
    config = make_small_config(model_type)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in kind(config).parameters())
    if count > MAX_PARAMETERS:
        raise ValueError(f"{count:,} parameters, despite the small sizes")
    torch.manual_seed(0)
    return perturb_weights(kind(config))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="path of the results, without .json and .md")
    parser.add_argument("--only", default="", help="only model types that contain this")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    rows = []
    for model_type, name in list_classes():
        if arguments.only in model_type:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(check_class(model_type, name, Path(folder)))
            sys.stderr.write(f"{rows[-1].name}: {rows[-1].verdict}\n")
    rows.sort(key=lambda row: (row.verdict == REFUSED, row.verdict, row.name))
    write_report(rows, arguments.out, "Models of transformers that read images in patches")


if __name__ == "__main__":
    main()
