"""An explanation is of the answer that the predictor gives, for every kind of target and of preparing images."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from megavit.config.preprocessing import Preprocessing
from megavit.config.target import Target
from megavit.errors import BundleError, ConfigError, ImageError
from megavit.explain.explanation import Explanation, compute_maps, explain_image, make_overlays, output_index
from megavit.explain.maps import compute_relevance
from megavit.explain.methods import Method
from megavit.predict.predictor import Predictor, load
from tests.helpers.bundles import LABELS, make_bundle, make_model


def pixels(height: int = 12, width: int = 20, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def predictor_of(folder: Path, **changes: Any) -> Predictor:
    make_bundle(folder / "bundle", metrics={}, **changes)
    return load(folder / "bundle", device="cpu")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return predictor_of(tmp_path_factory.mktemp("explain"))


@pytest.mark.parametrize("method", get_args(Method))
def test_it_is_of_the_answer_that_the_predictor_gives(predictor: Predictor, method) -> None:
    for seed in range(5):
        image = pixels(seed=seed)
        said, found = predictor.predict(image), explain_image(predictor, image, method=method)
        assert (found.label, found.method, found.value) == (said.label, method, None)
        assert found.probability == pytest.approx(said.probability)
        assert found.map.shape == (2, 2) and found.map.sum().item() == pytest.approx(1)
        assert torch.equal(found.image, torch.from_numpy(image).permute(2, 0, 1))


def test_another_class_can_be_asked_for(predictor: Predictor) -> None:
    said = dict(predictor.predict(pixels(), top=3).top)
    found = [explain_image(predictor, pixels(), label) for label in LABELS]
    for label, one in zip(LABELS, found, strict=True):
        assert one.label == label and one.probability == pytest.approx(said[label])
    assert not torch.allclose(found[0].map, found[1].map)


def test_a_label_that_is_not_known_is_refused_with_those_that_are(predictor: Predictor) -> None:
    with pytest.raises(ConfigError, match="cat, dog, newt, got 'rabbit'"):
        explain_image(predictor, pixels(), "rabbit")
    assert output_index(predictor, "newt") == 2 and output_index(predictor, None) is None


def test_of_several_labels_the_likeliest_is_explained_or_the_one_asked_for(tmp_path: Path) -> None:
    predictor = predictor_of(tmp_path, target=Target(kind="multilabel", thresholds=[0.5] * 3))
    top = predictor.predict(pixels(), top=3).top
    assert explain_image(predictor, pixels()).label == top[0][0]
    last = explain_image(predictor, pixels(), top[2][0])
    assert (last.label, last.probability) == (top[2][0], pytest.approx(top[2][1]))


def test_a_score_is_explained_as_such(tmp_path: Path) -> None:
    target = Target(kind="regression", mean=10.0, std=3.0)
    predictor = predictor_of(tmp_path, model=make_model(1), labels=(), target=target)
    found = explain_image(predictor, pixels())
    assert found.label is None and found.probability is None
    assert found.value == pytest.approx(predictor.predict(pixels()).score)
    assert "label" not in found.to_dict() and found.to_dict()["score"] == found.value
    with pytest.raises(ConfigError, match="no labels"):
        explain_image(predictor, pixels(), "cat")


def test_a_bundle_without_a_classifier_has_nothing_to_explain(tmp_path: Path) -> None:
    predictor = predictor_of(tmp_path, model=make_model(0), labels=())
    with pytest.raises(BundleError, match="no classifier"):
        explain_image(predictor, pixels())


def test_an_image_that_cannot_be_read_says_why(predictor: Predictor, tmp_path: Path) -> None:
    for image, reason in (
        (tmp_path / "nothing.png", "no such file"),
        (b"text", "not an image"),
        (pixels(channels=2), "2 channels"),
    ):
        with pytest.raises(ImageError, match=reason):
            explain_image(predictor, image)


def test_where_images_keep_their_aspect_the_map_has_it_too(tmp_path: Path) -> None:
    preprocessing = Preprocessing(height=8, width=8, channels=3, keep_aspect=True, patch_size=4)
    predictor = predictor_of(tmp_path, preprocessing=preprocessing)
    wide, tall = explain_image(predictor, pixels(10, 40)), explain_image(predictor, pixels(40, 10))
    assert wide.map.shape == (1, 4) and tall.map.shape == (4, 1)
    assert wide.overlay().size[0] > wide.overlay().size[1]
    images = [pixels(10, 40), pixels(16, 16), pixels(40, 10), pixels(10, 40, seed=1)]
    prepared = [predictor.prepare(image) for image in images]
    together = compute_maps(predictor.model, prepared, preprocessing)
    for image, found in zip(images, together, strict=True):
        torch.testing.assert_close(found, explain_image(predictor, image).map)


def test_what_is_cut_off_is_dark_in_the_overlay(tmp_path: Path) -> None:
    preprocessing = Preprocessing(height=8, width=8, channels=3, resize=8)
    predictor = predictor_of(tmp_path, preprocessing=preprocessing)
    found = explain_image(predictor, pixels(100, 400))
    assert found.box == (0.375, 0.0, 0.625, 1.0)
    shown = np.asarray(found.overlay().convert("L")).astype(float)
    assert shown.shape == (100, 400)
    assert shown[:, 150:250].mean() > 1.2 * shown[:, :150].mean()


def test_many_overlays_are_those_of_each(predictor: Predictor) -> None:
    images = [pixels(300, 400, seed=1), pixels(12, 20, channels=1, seed=2), pixels(8, 8, seed=3)]
    tensors = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
    preprocessing = predictor.info.preprocessing
    found = make_overlays(predictor.model, tensors, preprocessing)
    for image, one in zip(images, found, strict=True):
        assert one.tobytes() == explain_image(predictor, image).overlay().tobytes()
    chosen = make_overlays(predictor.model, tensors, preprocessing, [2, 2, 2])
    assert chosen[0].tobytes() == explain_image(predictor, images[0], LABELS[2]).overlay().tobytes()
    assert make_overlays(predictor.model, [], preprocessing) == []
    with pytest.raises(ImageError, match="2 channels"):
        make_overlays(predictor.model, [torch.zeros(2, 8, 8, dtype=torch.uint8)], preprocessing)


def test_as_plain_types_it_says_where_it_looks(predictor: Predictor) -> None:
    found = explain_image(predictor, pixels())
    table, summary = found.to_dict(), found.summary
    assert np.array(table["map"]).shape == (2, 2)
    assert (table["location"], table["top_patches"], table["top_share"]) == (summary.location, 1, summary.top_share)
    assert table["method"] == found.method and "score" not in table


def test_the_package_offers_it() -> None:
    import megavit

    assert megavit.explain_image is explain_image and megavit.Explanation is Explanation


def test_the_models_own_view_is_what_is_explained(predictor: Predictor) -> None:
    """The map of one image is `compute_relevance` of its prepared, normalized pixels."""
    prepared = predictor.prepare(pixels())
    x = (prepared.float() / 255 - 0.5) / 0.5
    torch.testing.assert_close(explain_image(predictor, pixels()).map, compute_relevance(predictor.model, x[None])[0])
