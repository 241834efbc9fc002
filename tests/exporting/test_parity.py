"""What is compared to verify an export, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from megavit.errors import ExportError
from megavit.evaluation.metrics.bootstrap import Interval
from megavit.exporting.metadata import export_info
from megavit.exporting.module import ExportModule, output_names, run_eagerly
from megavit.exporting.parity import ParityResult, check_parity, compare
from megavit.exporting.parity_images import ParityImage, limit_sides
from tests.helpers.bundles import edit_bundle_info
from tests.helpers.export_cases import load_with_pytorch, make_predictor, parity_images

SAME = ParityResult(
    images=100,
    stretched=4,
    output_error=0.0,
    feature_error=0.0,
    changed=0,
    ood_changed=5,
    worst="",
    accuracy=0.9,
    exported_accuracy=0.9,
    accuracy_change=Interval(0.0, 0.0, 0.0),
)


def test_int8_that_judges_reliability_differently_is_refused() -> None:
    check_parity(SAME, "int8", 0.5, "onnx")
    check_parity(replace(SAME, ood_changed=None), "int8", 0.5, "onnx")
    check_parity(replace(SAME, images=3, ood_changed=1), "int8", 0.5, "onnx")
    with pytest.raises(ExportError, match=r"int8 in onnx is too coarse .* 6 of 100 change; nothing was written"):
        check_parity(replace(SAME, ood_changed=6), "int8", 0.5, "onnx")


def test_images_that_change_between_in_and_out_of_distribution_are_counted(tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path / "bundle", True)
    images, info = parity_images(predictor), export_info(predictor, "pixels", "float32")
    run = run_eagerly(ExportModule(predictor).eval(), output_names(predictor))

    def run_far(pixels: np.ndarray) -> dict[str, np.ndarray]:
        outputs = run(pixels)
        return outputs | {"distance": outputs["distance"] * 2}

    assert compare(predictor, run, info, images, batch_sizes=(1,)).ood_changed == 0
    distances = [float(run(image.pixels[None])["distance"][0]) for image in images]
    edit_bundle_info(tmp_path / "bundle", lambda table: table["calibration"].update(ood_threshold=1.5 * min(distances)))
    near = sum(distance <= 1.5 * min(distances) < 2 * distance for distance in distances)
    found = compare(load_with_pytorch(tmp_path / "bundle"), run_far, info, images, batch_sizes=(2,)).ood_changed
    assert found is not None and found >= near > 0  # beside them, resized ones can change


def test_larger_images_than_a_runtime_takes_are_resized() -> None:
    large, small = (
        ParityImage(name, torch.arange(24, dtype=torch.uint8).reshape(2, 12, 1)[:, :width].numpy(), 1)
        for name, width in (("large", 12), ("small", 6))
    )
    assert limit_sides([large, small], None) == [large, small]
    first, second = limit_sides([large, small], 6)
    assert second is small
    assert first.name == "large resized to 6 × 2" and first.label == 1
    assert first.pixels[..., 0].tolist() == [[0, 2, 4, 6, 8, 10], [12, 14, 16, 18, 20, 22]]
