"""What is said of a model that was written for another library: on the terminal, and in the card beside it."""

import json
from typing import Literal

from megavit.weights.pretrained.heads.problem_type import EXTRA
from megavit.weights.pretrained.pretrained import PretrainedModel

Library = Literal["timm", "huggingface"]
LIBRARIES: dict[Library, str] = {"timm": "timm", "huggingface": "transformers"}
# From the logits, which are all that timm gives, to the answers.
MEANING = {
    "classification": "the softmax of its {outputs} outputs are the probabilities of its classes, of which an image "
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
answers = pipeline("image-classification", "THIS_FOLDER")("photo.jpg", top_k={outputs})""",
}
USE_FEATURES = """from transformers import AutoImageProcessor, AutoModel
model = AutoModel.from_pretrained("THIS_FOLDER", add_pooling_layer=False).eval()
processor = AutoImageProcessor.from_pretrained("THIS_FOLDER")"""


def sentences(library: Library, source: PretrainedModel) -> list[str]:
    """Return sentences on what the outputs mean, what the head now holds, and what the library has no place for."""
    target, calibration, outputs = source.target, source.calibration, source.config.num_classes
    left_out = []
    told = []
    if outputs:
        told.append(MEANING[target.kind].format(outputs=outputs))
        if library == "timm":
            told.append("its outputs are logits, whose meaning timm does not read; problem_type in config.json says it")
        if target.kind == "regression":
            told.append(f"the scores' mean {target.mean:g} and standard deviation {target.std:g} are in the head")
        elif calibration.temperature != 1:
            told.append(f"the calibration, a temperature of {calibration.temperature:.3g}, is in the head")
        if target.kind == "multilabel":
            left_out.append(f"the thresholds of the labels, which are in README.md and under {EXTRA!r} in config.json")
        if calibration.images and target.kind != "multilabel":
            what = "sets" if target.kind == "classification" else "ranges"
            left_out.append(f"{what} that hold the truth with a stated coverage")
    if calibration.ood_threshold is not None:
        left_out.append("marks of images unlike those of training")
    if left_out:
        told.append(f"left out, as {LIBRARIES[library]} has no place for them: {'; '.join(left_out)}")
    return told


def card_for(library: Library, source: PretrainedModel, told: list[str]) -> str:
    """Return Markdown on what the folder is, with the header by which a model hub files it.

    Args:
        told: sentences on it.
    """
    outputs = source.config.num_classes
    use = USE_FEATURES if library == "huggingface" and not outputs else USE[library].format(outputs=outputs)
    lines = [
        "---",
        f"library_name: {LIBRARIES[library]}",
        f"pipeline_tag: {'image-classification' if outputs else 'image-feature-extraction'}",
        "---",
        "",
        f"# A Vision Transformer for {LIBRARIES[library]}, written by megavit",
        "",
        *(f"- {sentence[0].upper()}{sentence[1:]}." for sentence in told),
        "",
        "```python",
        use,
        "```",
        "",
    ]
    if source.target.kind == "multilabel" and outputs:
        thresholds = dict(zip(source.labels, source.target.thresholds, strict=True))
        block = json.dumps(thresholds, indent=1, ensure_ascii=False).splitlines()
        # An indented block shows names as they are, whatever is in them.
        lines += ["A label is given from its threshold on:", "", *(f"    {line}" for line in block), ""]
    return "\n".join(lines)
