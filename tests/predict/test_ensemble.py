"""An ensemble is a bundle like others, and what needs a single model says so."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import megavit
from megavit.config.calibration import Calibration
from megavit.errors import BundleError, ConfigError, MegavitError
from megavit.predict.predictor import Predictor, load
from megavit.weights.bundle.bundle import load_bundle
from megavit.weights.pretrained.pretrained import load_pretrained
from tests.helpers.bundles import (
    MEMBERS,
    edit_bundle_info,
    make_bundle,
    make_info,
    make_model,
    reference_images,
    save_ensemble,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two models."""
    return save_ensemble(tmp_path_factory.mktemp("ensemble") / "bundle")


def test_it_predicts_the_mean_of_its_models(folder):
    predictor = load(folder, verify=True)
    images = [np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8) for seed in range(4)]
    singles = []
    for seed, member in enumerate(MEMBERS):
        model = make_model(seed=seed).eval()
        info = replace(make_info(model), calibration=Calibration(temperature=member.temperature))
        bundle = replace(load_bundle(folder), info=info, model=model)
        singles.append(Predictor(bundle, torch.device("cpu")))
    for image in images:
        found = dict(predictor.predict(image, top=3).top)
        parts = [dict(single.predict(image, top=3).top) for single in singles]
        assert found == pytest.approx({name: (parts[0][name] + parts[1][name]) / 2 for name in found}, abs=1e-5)
    torch.testing.assert_close(predictor.embed(images), singles[0].embed(images))


def test_the_card_and_the_size_are_of_all_models(folder):
    assert "# An ensemble of 2 Vision Transformers" in (folder / "README.md").read_text()
    single = folder.parent / "single"
    make_bundle(single)
    sizes = [(place / "model.safetensors").stat().st_size for place in (folder, single)]
    assert sizes[0] > 1.8 * sizes[1]


def test_what_needs_a_single_model_says_where_there_is_one(folder, tmp_path):
    predictor = load(folder)
    attempts = (
        lambda: predictor.model,
        lambda: load_bundle(folder).single_model,
        lambda: load_pretrained(str(folder)),
        lambda: megavit.export(folder, to="onnx", out=tmp_path / "out"),
        lambda: megavit.convert(folder, to="timm", out=tmp_path / "out"),
        lambda: megavit.explain_image(predictor, reference_images()[0]),
    )
    for attempt in attempts:
        with pytest.raises(BundleError, match=r"is an ensemble of 2 models.*pass the run of one of its folds"):
            attempt()
    assert not (tmp_path / "out").exists()
    with pytest.raises(BundleError, match="is an ensemble of 2 models, not one model"):
        megavit.MegaVit.from_pretrained(folder)
    with pytest.raises(ConfigError, match="no bounds for int8"):
        load(folder, precision="int8")


def test_it_is_calibrated_like_a_single_model(folder, tmp_path):
    random = np.random.default_rng(0)
    data = random.integers(0, 256, (90, 8, 8, 3)).astype(np.uint8), ["cat", "dog", "newt"] * 30
    found = megavit.calibrate(folder, data, out=tmp_path / "out")
    predictor = load(tmp_path / "out", verify=True)
    assert predictor.info.calibration.images == found.calibration.images == 36
    assert len(predictor.info.ensemble) == 2 and predictor.info.metrics == found.metrics.to_dict()
    assert predictor.predict(data[0][0], coverage=0.9).prediction_set


def test_a_bundle_that_lacks_a_model_is_refused(folder, tmp_path):
    save_ensemble(tmp_path / "bundle")
    edit_bundle_info(tmp_path / "bundle", lambda info: info["ensemble"].append(dict(info["ensemble"][0])))
    with pytest.raises(BundleError, match=r"models.2.* is missing"):
        load(tmp_path / "bundle")
    edit_bundle_info(tmp_path / "bundle", lambda info: info["ensemble"].__delitem__(slice(1, None)))
    with pytest.raises(MegavitError, match="from 2 to 100 models, got 1"):
        load(tmp_path / "bundle")
