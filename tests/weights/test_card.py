"""The card says what the model does, how well, and for what."""

from typing import Any

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
