import math

import pytest
import torch
from sklearn.datasets import load_digits

from megavit.data.dataset import LabeledImages, SampleRow
from megavit.data_check.label_issues import review_labels
from megavit.data_check.probe import MIN_IMAGES, predict_out_of_fold
from megavit.errors import DataError
from megavit.predict.predictor import load
from tests.helpers.bundles import make_bundle
from tests.helpers.labeled_images import make_labeled_images

COUNT = 120


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check") / "bundle"
    make_bundle(folder)
    predictor = load(folder, device="cpu")
    predictor.engine.patience = math.inf
    return predictor


@pytest.fixture(scope="module")
def zeros_and_ones() -> LabeledImages:
    """Digits 0 and 1, of which the first two have each other's label."""
    pixels, labels = load_digits(n_class=2, return_X_y=True)
    pictures = [
        torch.from_numpy((one.reshape(8, 8) * 255 / 16).astype("uint8")).expand(3, -1, -1) for one in pixels[:COUNT]
    ]
    targets = [int(label) for label in labels[:COUNT]]
    targets[0], targets[1] = targets[1], targets[0]
    return make_labeled_images(pictures, targets, classes=("0", "1"))


def test_embeddings_of_any_model_tell_wrong_labels(predictor, zeros_and_ones):
    reported = []
    answers = predict_out_of_fold(
        predictor.engine, zeros_and_ones, (), lambda done, total: reported.append((done, total))
    )
    assert answers.indices.tolist() == list(range(COUNT)) and reported[-1] == (COUNT, COUNT)
    torch.testing.assert_close(answers.probabilities.sum(dim=1), torch.ones(COUNT))
    judged = review_labels(zeros_and_ones, answers)
    found = [one.images[0] for one in judged.findings if one.kind in ("label_error", "possible_label_error")]
    assert set(found[:2]) == {"0000.png", "0001.png"}
    assert judged.agreement > 0.8


def test_what_the_bundle_was_trained_on_is_not_judged_and_that_is_told(predictor, zeros_and_ones):
    samples = zeros_and_ones.samples
    known = [SampleRow("x", "0", "train", one.digest) for one in samples[:50]]
    known += [SampleRow("x", "0", split, one.digest) for split in ("val", "test") for one in samples[50:60]]
    answers = predict_out_of_fold(predictor.engine, zeros_and_ones, known)
    assert answers.indices.tolist() == list(range(50, COUNT))
    assert "50 images are not checked" in answers.model


def test_a_bundle_that_knows_all_the_labels_is_refused(predictor, zeros_and_ones):
    known = [SampleRow("x", "0", "train", one.digest) for one in zeros_and_ones.samples[MIN_IMAGES - 1 :]]
    with pytest.raises(DataError, match=r"memorized.*leave out --bundle"):
        predict_out_of_fold(predictor.engine, zeros_and_ones, known)
