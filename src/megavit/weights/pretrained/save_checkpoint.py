"""Save a model as a folder that timm or Hugging Face's transformers can load."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from megavit.config.target import Target
from megavit.errors import BundleError, ConfigError, OutputError
from megavit.runtime.storage import new_folder, write_file, writing
from megavit.weights.bundle.safetensors_io import write_tensors
from megavit.weights.pretrained.classifier import NEGLIGIBLE_SMOOTHING, fold_calibration
from megavit.weights.pretrained.outputs import EXTRA, target_settings
from megavit.weights.pretrained.pretrained import PretrainedModel, load_pretrained
from megavit.weights.pretrained.save_formats import SETTINGS, Files, hugging_face_files, timm_files
from megavit.weights.pretrained.to_bundle import build_model

WEIGHTS, CARD = "model.safetensors", "README.md"
# Maximum difference of the reloaded model's outputs relative to the largest; summation order causes about 1e-6.
TOLERANCE = 1e-4
Library = Literal["timm", "huggingface"]
LIBRARIES: dict[Library, str] = {"timm": "timm", "huggingface": "transformers"}
MEANING = {
    "classification": "the softmax of its {outputs} outputs is the probability of each class, of which an image "
    "has one",
    "multilabel": "the sigmoid of each of its {outputs} outputs is the probability of a label, of which an image may "
    "have any number",
    "regression": "its output is the score, in the unit of the training images' scores",
}
USE = {
    "timm": """import timm
model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))""",
    "huggingface": """from transformers import pipeline
predictions = pipeline("image-classification", "THIS_FOLDER")("photo.jpg", top_k={outputs})""",
}
USE_FEATURES = """from transformers import AutoImageProcessor, AutoModel
model = AutoModel.from_pretrained("THIS_FOLDER", add_pooling_layer=False).eval()
processor = AutoImageProcessor.from_pretrained("THIS_FOLDER")"""
WRITERS: dict[Library, Callable[[PretrainedModel], tuple[Files, dict[str, Tensor]]]] = {
    "timm": timm_files,
    "huggingface": hugging_face_files,
}


def save_pretrained(library: Library, pretrained: PretrainedModel, out: Path, *, calibrated: bool = True) -> list[str]:
    """Save a model to the new folder `out` in the layout of `library`, and return sentences on its contents.

    The calibration is folded into the head, so that the library's softmax, sigmoid or plain output predicts the same.

    Args:
        calibrated: whether to write calibrated probabilities; False only if a head cannot represent the calibration.

    Raises:
        BundleError: if the library cannot represent the model, or would predict differently.
        ConfigError: if `calibrated` is False and the head can represent the calibration.
        OutputError: if `out` exists or cannot be written.
    """
    if out.exists():
        raise OutputError(f"{out} already exists: choose a new folder")
    if pretrained.cosine_dim:
        raise BundleError(
            f"{pretrained.name} tells classes by texts, with a head that {LIBRARIES[library]} has no place for: use "
            "the bundle, or megavit export"
        )
    notes = []
    if not calibrated:
        pretrained = drop_calibration(pretrained)
        notes.append("the probabilities are uncalibrated: the bundle's calibration was left out")
    notes += describe_outputs(library, pretrained)
    meaning: dict[str, Any] = {}
    if pretrained.config.num_classes:
        check_outputs(pretrained.target, pretrained.config.num_classes)
        pretrained = replace(
            pretrained, tensors=fold_calibration(pretrained.tensors, pretrained.target, pretrained.calibration)
        )
        meaning = target_settings(pretrained.target)
    files, tensors = WRITERS[library](pretrained)
    files[SETTINGS] |= meaning
    with writing("the model", out), new_folder(out) as new:
        write_tensors(new / WEIGHTS, tensors, {"format": "pt"})
        for name, settings in files.items():
            write_file(new / name, json.dumps(settings, indent=1, ensure_ascii=False))
        write_file(new / CARD, render_card(library, pretrained, notes).encode(errors="replace"))
        verify_saved(pretrained, new)
    return notes


@torch.inference_mode()
def verify_saved(pretrained: PretrainedModel, folder: Path) -> None:
    """Raise a BundleError unless the model saved in `folder` reproduces the outputs of `pretrained`."""
    config = pretrained.config
    written = load_pretrained(str(folder))
    if config.num_classes:
        written = replace(written, tensors=fold_calibration(written.tensors, written.target, written.calibration))
    image = torch.randn(1, config.channels, *config.image_hw, generator=torch.Generator().manual_seed(0))
    ours, theirs = build_model(pretrained)(image), build_model(written)(image)
    if ours.shape != theirs.shape or not torch.allclose(
        theirs, ours, rtol=TOLERANCE, atol=TOLERANCE * float(ours.abs().max())
    ):
        raise BundleError(
            f"the model written for {pretrained.name} has other outputs, so it was deleted. This is a bug in megavit: "
            "please report it, with the model's settings"
        )


def drop_calibration(pretrained: PretrainedModel) -> PretrainedModel:
    """Return the model with uncalibrated probabilities; raise a ConfigError if a head can represent the calibration."""
    if pretrained.calibration.smoothing <= NEGLIGIBLE_SMOOTHING:
        raise ConfigError(
            "--drop-calibration is for a calibration that cannot be folded into the head, but this one "
            "can: leave it out"
        )
    return replace(pretrained, calibration=replace(pretrained.calibration, temperature=1.0, smoothing=0.0))


def check_outputs(target: Target, outputs: int) -> None:
    """Raise a BundleError for a single class, to which other libraries would apply a sigmoid."""
    if target.kind == "classification" and outputs == 1:
        raise BundleError(
            "the bundle has one class, which every image gets with probability 1, but other libraries apply a sigmoid "
            "to a single output: convert its checkpoint again with --target multilabel or --target regression"
        )


def describe_outputs(library: Library, pretrained: PretrainedModel) -> list[str]:
    """Return sentences on the meaning of the outputs, the contents of the head, and what was left out."""
    target, calibration, outputs = pretrained.target, pretrained.calibration, pretrained.config.num_classes
    left_out = []
    notes = []
    if outputs:
        notes.append(MEANING[target.kind].format(outputs=outputs))
        if library == "timm":
            notes.append("its outputs are logits; timm does not read their meaning, problem_type in config.json")
        if target.kind == "regression":
            notes.append(f"the scores' mean {target.mean:g} and standard deviation {target.std:g} are in the head")
        elif calibration.temperature != 1:
            notes.append(f"the calibration, a temperature of {calibration.temperature:.3g}, is in the head")
        if target.kind == "multilabel":
            left_out.append(f"the thresholds of the labels, which are in README.md and under {EXTRA!r} in config.json")
        if calibration.images and target.kind != "multilabel":
            what = "sets" if target.kind == "classification" else "intervals"
            left_out.append(f"prediction {what} with a given coverage")
    if calibration.ood_threshold is not None:
        left_out.append("the detection of images unlike the training images")
    if left_out:
        notes.append(f"left out, as {LIBRARIES[library]} does not support them: {'; '.join(left_out)}")
    return notes


def render_card(library: Library, pretrained: PretrainedModel, notes: list[str]) -> str:
    """Return a model card in Markdown with the sentences `notes` and a model hub's metadata header."""
    outputs = pretrained.config.num_classes
    use = USE_FEATURES if library == "huggingface" and not outputs else USE[library].format(outputs=outputs)
    lines = [
        "---",
        f"library_name: {LIBRARIES[library]}",
        f"pipeline_tag: {'image-classification' if outputs else 'image-feature-extraction'}",
        "---",
        "",
        f"# A Vision Transformer for {LIBRARIES[library]}, written by megavit",
        "",
        *(f"- {sentence[0].upper()}{sentence[1:]}." for sentence in notes),
        "",
        "```python",
        use,
        "```",
        "",
    ]
    if pretrained.target.kind == "multilabel" and outputs:
        thresholds = dict(zip(pretrained.labels, pretrained.target.thresholds, strict=True))
        block = json.dumps(thresholds, indent=1, ensure_ascii=False).splitlines()
        # An indented block shows names literally.
        lines += ["A label is assigned from its threshold on:", "", *(f"    {line}" for line in block), ""]
    return "\n".join(lines)
