"""The module that is exported, against the predictor."""

import pytest
import torch

from megavit.errors import ConfigError
from megavit.exporting.metadata import export_info
from megavit.exporting.module import ExportModule, output_names
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
