"""What a bundle knows about its answers, from the file to the prediction."""

import math
from pathlib import Path

import pytest
import torch

from megavit.config.calibration import Calibration
from megavit.config.target import Target
from megavit.engine.engine import ModelOutput
from megavit.errors import BundleError, ConfigError
from megavit.predict.postprocess.ood import MahalanobisOOD, fit_mahalanobis_ood
from megavit.predict.postprocess.postprocess import MEANS, RESIDUALS, SET_LABELS, SET_SCORES, WHITENING, Calibrator
from megavit.predict.predictor import Predictor, load
from tests.helpers.bundles import LABELS, make_bundle, make_model
from tests.predict.test_prediction import SCORE_METRICS

BLANK = torch.zeros(3, 8, 8, dtype=torch.uint8)


def set_tensors(images: int = 100) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    scores = torch.rand(images, generator=random, dtype=torch.float64)
    return {SET_SCORES: scores, SET_LABELS: torch.randint(len(LABELS), (images,), generator=random)}


def trusting(folder: Path, temperature: float = 2.0, threshold: float = -1.0) -> Predictor:
    means = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    calibration = Calibration(images=100, temperature=temperature, ood_threshold=threshold)
    make_bundle(folder, calibration=calibration, tensors={**set_tensors(), MEANS: means, WHITENING: torch.eye(8)})
    return load(folder, verify=True)


def test_probabilities_are_those_of_the_logits_divided_by_the_temperature(tmp_path):
    found, plain = trusting(tmp_path / "a"), trusting(tmp_path / "b", temperature=1.0)
    hot, cold = (one.predict(BLANK, top=3) for one in (found, plain))
    assert [label for label, _ in hot.top] == [label for label, _ in cold.top]
    for (_, p), (_, q) in zip(hot.top, cold.top, strict=True):
        assert math.log(p / hot.top[0][1]) == pytest.approx(math.log(q / cold.top[0][1]) / 2, abs=1e-4)


def test_a_set_is_given_where_a_coverage_is_asked_for(tmp_path):
    predictor = trusting(tmp_path / "b")
    assert predictor.predict(BLANK).prediction_set is None
    small, large = (predictor.predict(BLANK, top=1, coverage=coverage) for coverage in (0.05, 0.99))
    assert small.prediction_set and large.prediction_set and small.label == small.prediction_set[0][0]
    assert len(small.prediction_set) <= len(large.prediction_set) <= len(LABELS)
    assert large.to_dict()["prediction_set"][0]["label"] == large.label
    streamed = next(predictor.stream([("a", BLANK)], coverage=0.99)).prediction
    assert streamed is not None and streamed.prediction_set == large.prediction_set
    with pytest.raises(ConfigError, match=r"0\.999 needs at least 999 validation images, but this bundle had 100"):
        predictor.predict(BLANK, coverage=0.999)
    with pytest.raises(ConfigError, match="use a coverage of at most"):
        next(predictor.stream([("a", BLANK)], coverage=0.999))


def test_a_bundle_that_was_not_calibrated_has_no_sets_and_no_marks(predictor):
    one = predictor.predict(BLANK)
    assert one.out_of_distribution is None and "out_of_distribution" not in one.to_dict()
    with pytest.raises(ConfigError, match="was not calibrated"):
        predictor.predict(BLANK, coverage=0.9)


def test_labels_have_no_sets(tmp_path):
    trusted = Calibrator(Calibration(), {}, Target(kind="multilabel", thresholds=[0.5] * 3), 3)
    with pytest.raises(ConfigError, match="is multilabel"):
        trusted.check_coverage(0.9)


def test_a_score_has_a_range(tmp_path):
    make_bundle(
        tmp_path / "b",
        make_model(1),
        labels=(),
        target=Target(kind="regression", mean=10.0, std=2.0),
        metrics=SCORE_METRICS,
        calibration=Calibration(images=99),
        tensors={RESIDUALS: torch.arange(99.0)},
    )
    one = load(tmp_path / "b").predict(BLANK, coverage=0.9)
    assert one.interval is not None and one.interval == pytest.approx((one.score - 89, one.score + 89))
    assert one.to_dict() == {"score": one.score, "interval": list(one.interval)}


def test_images_beyond_the_threshold_are_marked(tmp_path):
    near = trusting(tmp_path / "near", threshold=1e3).predict(BLANK)
    far = trusting(tmp_path / "far", threshold=-1.0).predict(BLANK)
    assert near.out_of_distribution is False and far.out_of_distribution is True
    assert far.to_dict()["out_of_distribution"] is True


def test_distances_are_in_standard_deviations_from_the_nearest_group():
    random = torch.Generator().manual_seed(0)
    groups = torch.arange(4000) % 2
    spread = torch.tensor([1.0, 2.0, 0.5])
    known = 100 * groups[:, None] + spread * torch.randn(4000, 3, generator=random)
    found = fit_mahalanobis_ood(known, 7 * groups).distance(torch.tensor([[0.0, 6, 0], [100, 100, 102.5], [3, 0, 2]]))
    torch.testing.assert_close(found, torch.tensor([3.0, 5.0, 5.0]), rtol=0.05, atol=0)


def test_the_distance_does_not_depend_on_where_the_features_are_or_how_they_are_turned():
    random = torch.Generator().manual_seed(0)
    known, new = torch.randn(300, 6, generator=random), torch.randn(9, 6, generator=random)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=random)).Q
    groups = torch.arange(300) % 3
    expected = fit_mahalanobis_ood(known, groups).distance(new)
    moved = fit_mahalanobis_ood(5 * known @ turn + 1000, groups).distance(5 * new @ turn + 1000)
    torch.testing.assert_close(moved, expected, rtol=0.01, atol=0)


def test_features_that_are_all_alike_and_few_images_have_distances_too():
    for known in (torch.ones(5, 4), torch.zeros(1, 4), torch.randn(3, 50)):
        distances = fit_mahalanobis_ood(known, torch.zeros(len(known))).distance(torch.randn(2, known.shape[1]))
        assert torch.isfinite(distances).all() and (distances >= 0).all()
    assert isinstance(fit_mahalanobis_ood(torch.ones(5, 4), torch.zeros(5)), MahalanobisOOD)


def test_every_image_has_its_own_answer_set_and_mark():
    calibration = Calibration(images=100, ood_threshold=0.5)
    trusted = Calibrator(calibration, set_tensors() | {MEANS: torch.eye(3)[:1], WHITENING: torch.eye(3)}, Target(), 3)
    seen = ModelOutput(torch.eye(3)[:2], torch.tensor([[5.0, 0.0, 0.0], [0.0, 0.1, 0.2]]))
    first, second = trusted.predictions(seen, LABELS, top=2, coverage=0.5)
    assert (first.label, second.label) == ("cat", "newt")
    assert (first.out_of_distribution, second.out_of_distribution) == (False, True)
    assert first.prediction_set is not None and len(first.prediction_set) == 1
    assert second.prediction_set is not None and len(second.prediction_set) > 1


@pytest.mark.parametrize(
    "changes",
    [
        {SET_LABELS: None},
        {SET_LABELS: torch.full((100,), 3)},
        {SET_SCORES: torch.zeros(99)},
        {MEANS: torch.zeros(3, 7)},
        {MEANS: None, WHITENING: None},
        {WHITENING: None},
        {WHITENING: torch.full((8, 8), math.nan)},
    ],
)
def test_tensors_of_another_bundle_are_refused(tmp_path, changes):
    whole = {**set_tensors(), MEANS: torch.zeros(3, 8), WHITENING: torch.eye(8)}
    tensors = {name: tensor for name, tensor in (whole | changes).items() if tensor is not None}
    make_bundle(tmp_path / "b", calibration=Calibration(images=100, ood_threshold=1.0), tensors=tensors)
    with pytest.raises(BundleError, match=r"calibration\.safetensors does not fit this bundle"):
        load(tmp_path / "b")
