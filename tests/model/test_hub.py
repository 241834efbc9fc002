import json

import pytest
import torch

from megavit.errors import BundleError
from megavit.model.vit import MegaVit
from tests.helpers.bundles import make_bundle, make_model

HEAD = "mlp_head.weight"


def test_a_model_that_was_saved_is_loaded_with_the_same_weights(tmp_path):
    model = make_model(pool="cls")
    model.save_pretrained(tmp_path / "model")
    found = MegaVit.from_pretrained(tmp_path / "model")
    assert found.config == model.config and not found.training
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(found(images), model.eval()(images))


def test_the_model_of_a_bundle_is_loaded_from_its_run(tmp_path):
    model = make_bundle(tmp_path / "run" / "bundle")
    for folder in (tmp_path / "run", tmp_path / "run" / "bundle"):
        assert torch.equal(MegaVit.from_pretrained(folder).state_dict()[HEAD], model.state_dict()[HEAD])


def test_the_config_of_another_library_is_refused_by_its_file(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(BundleError, match=r"config\.json is not of a model of megavit"):
        MegaVit.from_pretrained(tmp_path)


def test_a_folder_without_a_model_and_damaged_weights_are_refused(tmp_path):
    with pytest.raises(BundleError, match="has no model of megavit"):
        MegaVit.from_pretrained(tmp_path)
    make_model().save_pretrained(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(BundleError, match="does not have the weights"):
        MegaVit.from_pretrained(tmp_path / "model")


def test_weights_of_another_model_are_refused(tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    make_model(depth=1).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "model" / "model.safetensors")
    with pytest.raises(BundleError, match="does not have the weights"):
        MegaVit.from_pretrained(tmp_path / "model")
