"""The card says what the model does, how well, and for what."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from megavit.config.calibration import Calibration
from megavit.config.preprocessing import Preprocessing
from megavit.config.target import Target
from megavit.config.vit import ViTConfig
from megavit.weights.bundle.info import BundleInfo
from megavit.weights.bundle.model_card import render_model_card

SIZE = Preprocessing(height=24, width=40, channels=3, patch_size=(4, 8))
FACTS: dict[str, Any] = {
    "metrics": {"accuracy": {"value": 0.9123, "low": 0.8, "high": 0.95}, "images": 40},
    "data": {"source": "photos", "division": "10% for the test.", "counts": {"train": 320}},
    "preprocessing": SIZE,
    "created": "2026-11-01T12:00:00+00:00",
}


def model_card(labels: Sequence[str], target: Target = Target(), **facts: Any) -> str:  # noqa: B008 - frozen
    """Return the card of a bundle with these labels."""
    outputs = 1 if target.kind == "regression" else len(labels)
    if target.kind == "multilabel":
        target = replace(target, thresholds=[0.5] * outputs)
    sizes: dict[str, Any] = {"image_size": (24, 40), "patch_size": (4, 8), "dim": 8, "depth": 1, "heads": 1}
    model = ViTConfig(**sizes, num_classes=outputs, mlp_dim=8)
    return render_model_card(BundleInfo(model=model, labels=list(labels), recipe={}, target=target, **facts))


def test_the_card_tells_labels_accuracy_data_and_size():
    card = model_card(["cat", "dög"], **FACTS)
    for words in (
        "It distinguishes 2 classes: cat, dög.",
        "**Right on 91.2%** of 40 test images",
        "80.0% to 95.0%",
        "Trained on photos, 320 images; 10% for the test.",
        "24 × 40 pixels",
        "2026-11-01T12:00:00+00:00",
    ):
        assert words in card


def test_of_many_labels_the_first_fifty_are_told():
    card = model_card([f"class-{i}-" for i in range(1000)], **FACTS)
    assert "1000 classes" in card
    assert "class-49-, and 950 more." in card
    assert "class-50-" not in card


def test_the_card_of_labels_and_of_scores_says_what_they_are_measured_by():
    interval = {"value": 0.5, "low": 0.25, "high": 0.75}
    metrics: dict[str, Any] = {"mean_average_precision": interval, "images": 40, "chance_level": 0.125}
    card = model_card(["cat", "dog"], **FACTS | {"metrics": metrics}, target=Target(kind="multilabel"))
    for words in ("possibly none: cat, dog", "precision: 50.0% (95% interval 25.0% to 75.0%)", "get 12.5%", ".labels)"):
        assert words in card
    unknown = metrics | {"mean_average_precision": None}
    assert "not measured" in model_card(["cat"], **FACTS | {"metrics": unknown}, target=Target(kind="multilabel"))

    metrics = {"mae": interval, "images": 40, "median": 3, "baseline_mae": 2, "min_target": 1, "max_target": 9}
    card = model_card([], **FACTS | {"metrics": metrics}, target=Target(kind="regression"))
    for words in ("**Off by 0.5 on average** on 40", "always predicting 3", "off by 2", "from 1 to 9", ".score)"):
        assert words in card


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"keep_aspect": True}, "with their aspect ratio kept, to at most 30 patches of 4 × 8 pixels."),
        (
            {"resize": 48},
            "with their aspect ratio kept, to 48 pixels on the shorter side, then center-cropped to 24 × 40",
        ),
        ({"resize": (30, 50)}, "to 30 × 50 pixels, whatever their shape, then center-cropped to 24 × 40."),
    ],
)
def test_the_card_says_how_images_are_resized(changes: dict[str, Any], words: str) -> None:
    card = model_card(["cat", "dog"], **FACTS | {"preprocessing": replace(SIZE, **changes)})
    assert f"Images are resized {words}" in card


@pytest.mark.parametrize("labels, words", [(["cat"], "It distinguishes 1 classes: cat"), ([], "It has no classifier.")])
def test_the_card_of_a_converted_model_says_that_nothing_was_measured(labels: list[str], words: str) -> None:
    card = model_card(labels, **FACTS | {"metrics": {}, "data": {"source": "their file"}})
    assert words in card
    assert "has not been evaluated" in card
    assert "Converted from their file" in card


@pytest.mark.parametrize(
    "target, labels, words",
    [
        (Target(kind="regression"), [], "It predicts a number for each image."),
        (Target(kind="multilabel", thresholds=[0.5]), ["cat"], "any number of these 1 labels, possibly none: cat."),
    ],
)
def test_the_card_of_a_converted_model_says_what_it_answers_with(target: Target, labels: list[str], words: str) -> None:
    card = model_card(labels, **FACTS | {"metrics": {}, "data": {"source": "their file"}}, target=target)
    assert words in card
    assert "pipeline_tag: image-classification" in card


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_what_can_be_trusted_is_said_where_it_was_found(kind):
    target = Target(kind=kind, thresholds=[0.5] * 2 if kind == "multilabel" else [])
    facts = FACTS | {"metrics": {}, "data": {"source": "s"}}
    plain, trusting = (
        model_card([] if kind == "regression" else ["cat", "dog"], target, **facts, calibration=calibration)
        for calibration in (Calibration(), Calibration(images=50, ood_threshold=3.0))
    )
    assert "calibrated" not in plain and "unlike" not in plain and "coverage" not in plain
    assert ("calibrated on 50 images" in trusting) == (kind != "regression")
    assert ("--coverage" in trusting) == (kind != "multilabel")
    assert "unlike the training images is marked" in trusting
