"""What `megavit quantize` says of int8: never that it is faster where it was not."""

from dataclasses import replace
from pathlib import Path

import pytest

from megavit.bench.precisions import BatchSpeed
from megavit.cli.render.quantization import describe_accuracy, describe_refusal, describe_speed, describe_use
from megavit.evaluation.metrics.bootstrap import Interval
from megavit.exporting.quantization import Int8Result

FASTER_SINGLE = BatchSpeed(1, {"float32": 0.0073, "bfloat16": 0.0055, "int8": 0.0044})
FASTER = BatchSpeed(16, {"float32": 0.061, "bfloat16": 0.0364, "int8": 0.0222})
SLOWER_SINGLE = BatchSpeed(1, {"float32": 0.0195, "int8": 0.0222})
SLOWER = BatchSpeed(16, {"float32": 0.061, "bfloat16": 0.0364, "int8": 0.04})
EQUAL = BatchSpeed(16, {"float32": 0.199, "int8": 0.198})


def test_accuracy_has_its_interval() -> None:
    result = Int8Result(1200, 0.98125, 0.98, Interval(-0.00125, -0.004, 0.001))
    assert describe_accuracy(result) == (
        "accuracy on 1,200 images: 98.12% in float32, 98.00% in int8, a change of -0.12 points (95%: -0.40 to +0.10)"
    )


def test_what_is_unlike_the_training_images_in_one_only_is_counted() -> None:
    result = Int8Result(1200, 0.98125, 0.98, Interval(-0.00125, -0.004, 0.001), ood_changed=60)
    assert describe_accuracy(result).endswith("; 60 are unlike the training images in one only")
    assert "--max-accuracy-drop" in describe_refusal(result, 0.5)
    assert "too coarse to tell which images are unlike" in describe_refusal(replace(result, ood_changed=61), 0.5)


@pytest.mark.parametrize(
    ("speed", "text"),
    [
        (FASTER, "int8 22.2 ms, bfloat16 36.4 ms, float32 61.0 ms; int8 is 1.64 times as fast as bfloat16"),
        (SLOWER, "bfloat16 36.4 ms, int8 40.0 ms, float32 61.0 ms; int8 is slower than bfloat16"),
        (SLOWER_SINGLE, "float32 19.5 ms, int8 22.2 ms; int8 is slower than float32"),
        (EQUAL, "int8 198.0 ms, float32 199.0 ms; int8 is not faster than float32"),
    ],
)
def test_int8_is_compared_with_the_fastest_other_precision(speed: BatchSpeed, text: str) -> None:
    batch = "single images" if speed.batch == 1 else "batches of 16"
    assert describe_speed(speed) == f"{batch}, on this machine: {text}"


@pytest.mark.parametrize(
    ("speeds", "text"),
    [
        ((FASTER_SINGLE, FASTER), "small: use it with --precision int8"),
        (
            (SLOWER_SINGLE, FASTER),
            "small: on this machine use --precision int8 for batches of 16, but --precision float32 for single images",
        ),
        (
            (SLOWER_SINGLE, SLOWER),
            "small: int8 does not pay on this machine, use --precision float32 for single images and --precision "
            "bfloat16 for batches of 16; on other processors it may: measure it there",
        ),
        (
            (FASTER_SINGLE, EQUAL),
            "small: on this machine use --precision int8 for single images, but --precision float32 for batches of 16",
        ),
    ],
)
def test_int8_is_advised_only_where_it_was_faster(speeds: tuple[BatchSpeed, ...], text: str) -> None:
    assert describe_use(Path("small"), speeds) == text
