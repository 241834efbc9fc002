"""Render the model card of a bundle: its purpose, metrics and limits (arXiv 1810.03993)."""

import re
from collections.abc import Sequence
from typing import Any

from megavit.config.calibration import Calibration
from megavit.config.names import printable
from megavit.config.preprocessing import Preprocessing
from megavit.config.target import Target
from megavit.config.vit import pair
from megavit.weights.bundle.info import BundleInfo

# Text without Markdown syntax; an underscore is syntax only at the edge of a word.
_PLAIN = re.compile(r"(?:[^\W_]|[ ,.'()/-]|(?<=[^\W_])_(?=[^\W_]))*")


def render_model_card(info: BundleInfo) -> str:
    """Return a bundle's model card in Markdown, with a model hub's metadata header."""
    labels, metrics, data, target = info.labels, info.metrics, info.data, info.target
    match target.kind:
        case _ if "pretraining" in data:
            text = _pretrained(data)
        case _ if not metrics:
            text = _unmeasured(labels, target, len(info.ensemble))
        case "classification":
            text = _classes(labels, metrics)
        case "multilabel":
            text = _labels(labels, metrics)
        case "regression":
            text = _score(metrics)
    attribute = {"classification": "label", "multilabel": "labels", "regression": "score"}[target.kind]
    origin = f"Converted from {literal(data['source'])}"
    if "division" in data:
        origin = f"Trained on {literal(data['source'])}, {data['counts']['train']} images; {data['division']}"
    return f"""---
library_name: megavit
pipeline_tag: {"image-classification" if labels or target.kind == "regression" else "image-feature-extraction"}
---

{text}
{_calibration_lines(target, info.calibration)}{_change_lines(data, info.int8.get("measured"))}- {origin}
{_pretrained_line(info)}{_teacher_line(data)}{_pseudo_label_line(info)}\
- Images are resized {describe_resizing(info.preprocessing)}.
- Written on {info.created} by megavit.

```python
import megavit
predictor = megavit.load("this folder")
print(predictor.predict("photo.jpg").{attribute})
```

`megavit.json` has every setting and metric, `samples.csv` lists what each image was used for, and
`reference.safetensors` has images with the model's expected outputs, which `megavit predict THIS_FOLDER photo.jpg
--verify` checks first.
"""


def _pretrained_line(info: BundleInfo) -> str:
    record = info.tuning or info.data
    place, license_name = record.get("origin"), record.get("license")
    if not place:
        return ""
    stated = f"their license is {literal(license_name)}" if license_name else "their license is not stated there"
    return f"- Its pretrained weights come from {literal(place)}; {stated}.\n"


def _teacher_line(data: dict[str, Any]) -> str:
    teacher = data.get("teacher")
    if not teacher:
        return ""
    license_name = teacher["license"]
    stated = f"whose license is {literal(license_name)}" if license_name else "whose license is not stated there"
    return f"- It imitates the {teacher['imitated']} of a teacher from {literal(teacher['origin'])}, {stated}.\n"


def _pseudo_label_line(info: BundleInfo) -> str:
    found = info.tuning.get("pseudo_labels")
    if not found or not found["gain"]["is_better"]:
        return ""
    count = sum(found["used"].values())
    return f"- It learned from {count:,} images of {literal(found['source'])} too, whose classes were predicted.\n"


def literal(name: object) -> str:
    """Return `name` escaped so that Markdown shows it literally, without markup, HTML or links."""
    text = printable(str(name))
    if _PLAIN.fullmatch(text) and "www." not in text.casefold():
        return text
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in text or text != text.strip() or not text else ""
    return f"{fence}{space}{text}{space}{fence}"


def _calibration_lines(target: Target, calibration: Calibration) -> str:
    if not calibration.images:
        return ""
    lines = ""
    if target.kind != "regression":
        lines += f"- Its probabilities were calibrated on {calibration.images} images held out from training.\n"
    if target.kind != "multilabel":
        what = "a set of labels" if target.kind == "classification" else "a range"
        lines += (
            f"- `--coverage 0.9` returns {what} that contains the true one for 90% of images like the test images.\n"
        )
    if calibration.ood_threshold is not None:
        lines += (
            "- An image unlike the training images is marked, as its prediction means little; "
            f"so are {calibration.ood_false_alarm_rate:.0%} of images like them.\n"
        )
    return lines


def _change_lines(data: dict[str, Any], int8: dict[str, Any] | None) -> str:
    lines = ""
    if "cross_validation" in data:
        found = data["cross_validation"]
        what = f"It is the model of fold {found['fold']} of {found['folds']}, which is of median quality"
        if found["is_ensemble"]:
            what = f"It is the mean of the models of {found['folds']} folds"
        lines += f"- {what}: {found['summary']}, each predicted by the one model that was not trained on it.\n"
    for entry in data.get("added", []):
        name, what = literal(entry["class"]), "was added later, with" if entry["is_new"] else "later got"
        lines += f"- The class {name} {what} {entry['images']} images, on which only the head was fitted.\n"
    if "calibrated" in data:
        found = data["calibrated"]
        lines += (
            f"- It was recalibrated on {found['fitted']} images of {literal(found['source'])}; the figures above "
            f"were measured on {found['measured']} other images of it.\n"
        )
    if int8:
        lines += (
            f"- With `--precision int8` it is right on {int8['int8']:.2%} of {int8['images']} images it had not seen, "
            f"and on {int8['float32']:.2%} in float32.\n"
        )
    return lines


def describe_resizing(preprocessing: Preprocessing) -> str:
    """Return how images are resized and cropped, as the end of a sentence that begins "Images are resized"."""
    crop_height, crop_width = preprocessing.crop_hw
    crop = f"then center-cropped to {crop_height} × {crop_width}"
    if preprocessing.crop_rounding == "floor":
        crop += " (half of an odd margin is rounded down)"
    if preprocessing.crop_size is not None:
        crop += f", of which the top left {preprocessing.height} × {preprocessing.width} are used"
    match preprocessing.resize:
        case int():
            return f"with their aspect ratio kept, to {preprocessing.resize} pixels on the shorter side, {crop}"
        case (height, width):
            return f"to {height} × {width} pixels, whatever their shape, {crop}"
    if preprocessing.keep_aspect:
        height, width = pair("patch_size", preprocessing.patch_size)
        max_patches = preprocessing.height * preprocessing.width // (height * width)
        return f"with their aspect ratio kept, to at most {max_patches} patches of {height} × {width} pixels"
    return f"to {preprocessing.height} × {preprocessing.width} pixels, without a crop, whatever their shape"


def _names(labels: Sequence[str]) -> str:
    return ", ".join(map(literal, labels[:50])) + (f", and {len(labels) - 50} more" if len(labels) > 50 else "")


def _pretrained(data: dict[str, Any]) -> str:
    about, images = data["pretraining"], data["counts"]["train"]
    accuracy, lines = about["neighbor_accuracy"], ""
    if accuracy is not None:
        lines += (
            f"\n- The nearest neighbors of an image among them are of its class for {accuracy:.1%} of the images "
            "watched, which are among those that it has learned from."
        )
    if about["warning"]:
        lines += f"\n- **Warning**: {about['warning']}."
    return f"""# A pretrained Vision Transformer

It has no classifier: its features were learned from {images} images without their labels by {about["method"]}.

- `megavit embed THIS_FOLDER` returns the features of images, and `megavit train DATA --from THIS_FOLDER` trains a
  classifier from them.
- The effective rank of its features was {about["effective_rank"]:.1f} at the end.{lines}"""


def _unmeasured(labels: Sequence[str], target: Target, models: int) -> str:
    match target.kind:
        case "regression":
            what = "It predicts a number for each image."
        case "multilabel":
            what = f"It assigns an image any number of these {len(labels)} labels, possibly none: {_names(labels)}."
        case "classification" if labels:
            what = f"It distinguishes {len(labels)} classes: {_names(labels)}."
        case "classification":
            what = "It has no classifier."
    title = f"An ensemble of {models} Vision Transformers" if models else "A converted Vision Transformer"
    return f"""# {title}

{what}

- It has not been evaluated here: `megavit evaluate THIS_FOLDER DATA` does."""


def _classes(labels: Sequence[str], metrics: dict[str, Any]) -> str:
    accuracy = metrics["accuracy"]
    return f"""# An image classifier

It distinguishes {len(labels)} classes: {_names(labels)}.

- **Right on {accuracy["value"]:.1%}** of {metrics["images"]} test images it had not seen
  (95% interval {accuracy["low"]:.1%} to {accuracy["high"]:.1%}).
- That figure applies to images like the test images, and says nothing about others. Every image gets one of
  the labels above, even if it shows none of them."""


def _labels(labels: Sequence[str], metrics: dict[str, Any]) -> str:
    precision = metrics["mean_average_precision"]
    found = "not measured, as no test image has a label,"
    if precision is not None:
        found = f"{precision['value']:.1%} (95% interval {precision['low']:.1%} to {precision['high']:.1%})"
    return f"""# A multi-label image classifier

It assigns an image any number of these {len(labels)} labels, possibly none: {_names(labels)}.

- Mean average precision: {found}
  on {metrics["images"]} test images it had not seen; a random ranking would get {metrics["chance_level"]:.1%}.
- A label is assigned from its threshold on, which was chosen on images held out from training; `megavit.json` has them.
- These figures apply to images like the test images, and say nothing about others."""


def _score(metrics: dict[str, Any]) -> str:
    error = metrics["mae"]
    images = "the training images" if metrics.get("baseline_from_training", True) else "these images"
    return f"""# A model that scores images

It predicts a number for each image.

- **Off by {error["value"]:.3g} on average** on {metrics["images"]} test images it had not seen
  (95% interval {error["low"]:.3g} to {error["high"]:.3g}); always predicting {metrics["median"]:.3g}, the median of
  {images}, would be off by {metrics["baseline_mae"]:.3g}.
- The test images' scores range from {metrics["min_target"]:.3g} to {metrics["max_target"]:.3g}.
- These figures apply to images like the test images, and say nothing about others."""
