from dataclasses import replace
from typing import Any

import pytest
import torch

from megavit.config.vit import PLAIN_VIT, Design
from megavit.errors import BundleError
from megavit.model.vit import MegaVit
from megavit.weights.pretrained.initialize import initialize_from
from megavit.weights.pretrained.pretrained import PretrainedModel, fingerprint, load_pretrained
from tests.helpers.bundles import LABELS, make_bundle, make_model

DESIGNS = [
    Design(),
    replace(PLAIN_VIT, registers=2),
    Design(positions="rope", mlp="swiglu", layer_scale=0.1),
    Design(stem="conv"),
    Design(stem="conv", norm="batch"),
]


def source_of(model: MegaVit, **changes) -> PretrainedModel:
    facts: dict[str, Any] = {
        "name": "before",
        "config": model.config,
        "tensors": dict(model.state_dict()),
        "preprocessing": None,
    }
    return PretrainedModel(**(facts | changes))


def of_size(model: MegaVit, **changes) -> MegaVit:
    torch.manual_seed(1)
    return MegaVit.from_config(replace(model.config, **changes)).eval()


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("pool", ["mean", "cls", "map"])
def test_a_model_of_the_same_config_becomes_the_same_model(design, pool):
    model = make_model(design=design, pool=pool).eval()
    new = of_size(model)
    assert initialize_from(new, source_of(model), head=True) == []
    assert all(torch.equal(new.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(new(random(2, 3, 8, 8)), model(random(2, 3, 8, 8)))


def test_the_head_stays_the_models_own_unless_it_is_asked_for():
    model = make_model()
    new = of_size(model, num_classes=5)
    own = new.state_dict()["mlp_head.weight"].clone()
    assert initialize_from(new, source_of(model)) == ["a new head with 5 outputs"]
    assert torch.equal(new.state_dict()["mlp_head.weight"], own)
    assert torch.equal(new.features(random(1, 3, 8, 8)).pooled, model.eval().features(random(1, 3, 8, 8)).pooled)
    with pytest.raises(BundleError, match=r"mlp_head.weight: has shape \(3, 8\), expected \(5, 8\)"):
        initialize_from(of_size(model, num_classes=5), source_of(model), head=True)


@torch.no_grad()
def test_a_model_that_pools_by_the_mean_as_well_starts_from_one_that_pools_by_the_class_token():
    model = make_model(pool="cls").eval()
    new = of_size(model, pool="cls_mean")
    assert initialize_from(new, source_of(model)) == ["a new head with 3 outputs"]
    pooled, images = new.features(random(2, 3, 8, 8)).pooled, random(2, 3, 8, 8)
    assert torch.equal(pooled[:, :8], model.features(images).pooled)
    torch.testing.assert_close(pooled[:, 8:], model.features(images).patches.mean(dim=1))
    with pytest.raises(BundleError, match=r"mlp_head.weight: has shape \(3, 8\), expected \(3, 16\)"):
        initialize_from(of_size(model, pool="cls_mean"), source_of(model), head=True)
    with pytest.raises(BundleError, match="class_token: is missing"):
        initialize_from(of_size(model, pool="cls_mean"), source_of(make_model(pool="mean")))


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("size", [(12, 12), (4, 16)])
def test_at_another_size_the_model_answers_as_the_source_does_for_images_of_that_size(design, size):
    model = make_model(design=design, pool="cls").eval()
    new = of_size(model, image_size=size)
    reported = initialize_from(new, source_of(model), head=True)
    images = random(2, 3, *size)
    torch.testing.assert_close(new(images), model(images))
    assert bool(reported) == (design.positions == "learned")
    assert all("positions resampled from 2 × 2 to" in one for one in reported)


def test_a_model_of_gray_images_answers_as_the_source_does_for_three_equal_channels():
    model = make_model().eval()
    new = of_size(model, channels=1)
    (reported,) = initialize_from(new, source_of(model), head=True)
    assert "summed over its 3 channels" in reported
    gray = random(2, 1, 8, 8)
    torch.testing.assert_close(new(gray), model(gray.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(("have", "want"), [(1, 3), (3, 4), (5, 3)])
def test_other_channels_are_refused_and_nothing_is_changed(have, want):
    model = make_model(channels=have)
    new = of_size(model, channels=want)
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    with pytest.raises(
        BundleError, match=f"for images of {have} channels, and can only be adapted to 1 channel, not to {want}"
    ):
        initialize_from(new, source_of(model))
    assert all(torch.equal(before[name], tensor) for name, tensor in new.state_dict().items())


def test_everything_that_does_not_fit_is_listed_at_once():
    model = make_model()
    tensors = dict(model.state_dict())
    del tensors["norm.weight"]
    tensors["extra"] = torch.zeros(1)
    tensors["positions.table"] = torch.zeros(3, 8)
    with pytest.raises(BundleError) as caught:
        initialize_from(of_size(model), source_of(model, tensors=tensors))
    for fault in ("norm.weight: is missing", "extra: is not part of this model", "positions.table: has shape (3, 8)"):
        assert fault in str(caught.value)


def test_a_model_of_other_parts_is_refused():
    model = make_model()
    with pytest.raises(BundleError, match=r"transformer\.layers\.2\.norm\.weight: is missing"):
        initialize_from(of_size(model, depth=3), source_of(model))


def test_a_bundle_is_read_and_anything_else_told_what_it_may_be(tmp_path):
    model = make_bundle(tmp_path / "run" / "bundle")
    for place in ("run", "run/bundle"):
        source = load_pretrained(str(tmp_path / place))
        assert source.labels == LABELS and source.config == model.config and source.preprocessing is not None
        assert all(torch.equal(source.tensors[name], tensor) for name, tensor in model.state_dict().items())
    (tmp_path / "file").touch()
    for place, what in (
        ("file", "is not a checkpoint"),
        ("nothing", "does not exist"),
        (".", "has none of model.safetensors"),
    ):
        with pytest.raises(BundleError, match=what):
            load_pretrained(str(tmp_path / place))


def test_the_fingerprint_changes_with_any_weight_and_with_nothing_else():
    model = make_model()
    source = source_of(model)
    assert fingerprint(source) == fingerprint(replace(source, name="other", labels=("x",)))
    tensors = source.tensors | {"norm.weight": source.tensors["norm.weight"].clone()}
    assert fingerprint(replace(source, tensors=tensors)) == fingerprint(source)
    tensors["norm.weight"][0] += 1e-6
    assert fingerprint(replace(source, tensors=tensors)) != fingerprint(source)
