"""The module that is exported, against the predictor."""

import pytest
import torch

from megavit.config.vit import Design
from megavit.errors import ConfigError
from megavit.exporting.metadata import export_info
from megavit.exporting.module import ExportModule, image_module, output_names
from megavit.exporting.parity import compare
from megavit.exporting.parity_images import ParityImage
from megavit.exporting.resize import input_channels
from tests.helpers.bundles import edit_bundle_info
from tests.helpers.export_cases import CASES, make_images, make_predictor


@pytest.mark.parametrize("input", ["pixels", "images"])
@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_it_answers_as_the_predictor(case, trusted, input, tmp_path):
    predictor = make_predictor(tmp_path / "bundle", trusted, **CASES[case])
    whole = ExportModule(predictor, input).eval()

    def run(given):
        with torch.no_grad():
            found = whole(torch.from_numpy(given))
        return {name: values.numpy() for name, values in zip(output_names(predictor), found, strict=True)}

    images = [
        ParityImage(str(place), one)
        for place, one in enumerate(make_images(input_channels(predictor.info.preprocessing)))
    ]
    found = compare(predictor, run, export_info(predictor, input, "float32"), images, batch_sizes=(1, 2, 5))
    assert found.images > len(images) if input == "pixels" else found.images == len(images)
    assert found.feature_error < 1e-4 and found.output_error < 1e-4


def test_the_predictors_own_model_is_left_alone(tmp_path):
    predictor = make_predictor(tmp_path / "bundle")
    before = {name: tensor.clone() for name, tensor in predictor.model.state_dict().items()}
    ExportModule(predictor, dtype=torch.float16)
    after = predictor.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_keeps_images_aspect_is_refused(tmp_path):
    make_predictor(tmp_path / "bundle")
    edit_bundle_info(
        tmp_path / "bundle", lambda table: table["preprocessing"].update(keep_aspect=True, patch_size=[4, 4])
    )
    from megavit.predict.predictor import load

    with pytest.raises(ConfigError, match="without --keep-aspect"):
        ExportModule(load(tmp_path / "bundle"))


@pytest.mark.parametrize("design", [Design(), Design(stem="conv", norm="batch"), Design(positions="rope", registers=2)])
def test_the_module_without_unfold_computes_as_the_one_with_it(design, tmp_path):
    predictor = make_predictor(tmp_path / "bundle", True, design=design)
    height, width = predictor.info.model.image_hw
    images = torch.randn(2, 3, height, width)
    with torch.no_grad():
        expected, found = (module(images) for module in (ExportModule(predictor, "images"), image_module(predictor)))
    torch.testing.assert_close(found, expected)


def test_a_norm_of_pixels_is_sent_to_onnx(tmp_path):
    predictor = make_predictor(tmp_path / "bundle", design=Design(patch_norm=True))
    with pytest.raises(ConfigError, match="export this model to onnx"):
        image_module(predictor)
