"""The card says what the model does, how well, and for what."""

from typing import Any

from megavit.config.target import Target
from megavit.weights.card import model_card

FACTS: dict[str, Any] = {
    "metrics": {"accuracy": {"value": 0.9123, "low": 0.8, "high": 0.95}, "images": 40},
    "data": {"source": "photos", "division": "10% for the test.", "counts": {"train": 320}},
    "model": {"image_size": [24, 40]},
    "created": "2026-11-01T12:00:00+00:00",
}


def test_the_card_tells_labels_accuracy_data_and_size():
    card = model_card(["cat", "dög"], **FACTS)
    for words in (
        "2 kinds of image apart: cat, dög.",
        "**Right on 91.2%** of 40 test images",
        "80.0% to 95.0%",
        "Trained on photos, 320 images; 10% for the test.",
        "24 × 40 pixels",
        "2026-11-01T12:00:00+00:00",
    ):
        assert words in card


def test_of_many_labels_the_first_fifty_are_told():
    card = model_card([f"class-{i}-" for i in range(1000)], **FACTS)
    assert "1000 kinds" in card
    assert "class-49-, and 950 more." in card
    assert "class-50-" not in card


def test_the_card_of_labels_and_of_scores_says_what_they_are_measured_by():
    interval = {"value": 0.5, "low": 0.25, "high": 0.75}
    metrics: dict[str, Any] = {"mean_average_precision": interval, "images": 40, "chance": 0.125}
    card = model_card(["cat", "dog"], **FACTS | {"metrics": metrics}, target=Target(kind="labels"))
    for words in ("possibly none: cat, dog", "precision: 50.0% (95% interval 25.0% to 75.0%)", "get 12.5%", ".labels)"):
        assert words in card
    unknown = metrics | {"mean_average_precision": None}
    assert "not measured" in model_card(["cat"], **FACTS | {"metrics": unknown}, target=Target(kind="labels"))

    metrics = {"mae": interval, "images": 40, "median": 3, "baseline_mae": 2, "lowest": 1, "highest": 9}
    card = model_card([], **FACTS | {"metrics": metrics}, target=Target(kind="score"))
    for words in ("**Off by 0.5 on average** on 40", "always saying 3", "off by 2", "from 1 to 9", ".score)"):
        assert words in card


def test_the_card_says_where_images_keep_their_shape():
    card = model_card(
        ["cat", "dog"], **FACTS | {"model": {"image_size": [24, 40], "patch_size": [4, 8]}}, keep_aspect=True
    )
    assert "resized with their aspect kept, to at most 30 patches of 4 × 8 pixels." in card
