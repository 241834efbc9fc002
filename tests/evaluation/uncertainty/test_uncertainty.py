import pytest
import torch

from megavit.config.target import Target
from megavit.engine.engine import ModelOutput
from megavit.evaluation.uncertainty.measure import COVERAGES, compute_uncertainty
from megavit.evaluation.uncertainty.uncertainty import fit_uncertainty
from megavit.predict.postprocess.postprocess import Calibrator

CLASSES, WIDTH = 4, 6


def seen(images: int, seed: int, shift: float = 0.0) -> tuple[ModelOutput, torch.Tensor]:
    """Images of four kinds, seen by a model that is surer than it may be."""
    random = torch.Generator().manual_seed(seed)
    truth = torch.randint(CLASSES, (images,), generator=random)
    pooled = torch.eye(CLASSES, WIDTH)[truth] + 0.5 * torch.randn(images, WIDTH, generator=random)
    pooled[:, -1] += shift
    return ModelOutput(pooled, 12 * pooled[:, :CLASSES]), truth


def test_what_was_promised_holds_on_other_images():
    held, truth = seen(2000, 0)
    known, classes = seen(1000, 1)
    trust, tensors = fit_uncertainty(held, truth, Target(), (known.pooled, classes))
    trusted = Calibrator(trust, tensors, Target(), CLASSES)
    other, answers = seen(4000, 2)
    found = compute_uncertainty(trusted, other, answers)
    assert trust.temperature > 1 and found.uncalibrated and found.calibrated
    assert found.calibrated.ece.value < found.uncalibrated.ece.low
    assert [one.requested for one in found.coverages] == list(COVERAGES)
    for one in found.coverages:
        assert (
            one.empirical.high > one.requested
            and one.worst_class is not None
            and one.worst_class > one.requested - 0.05
        )
        assert 1 <= one.mean_size <= CLASSES
    assert found.coverages[0].class_conditional
    sizes = [one.mean_size for one in found.coverages]
    assert sizes == sorted(sizes)
    assert found.false_positive_rate and found.false_positive_rate.low < 0.02
    strange = compute_uncertainty(trusted, *seen(500, 3, shift=5.0))
    assert strange.false_positive_rate and strange.false_positive_rate.value > 0.95
    assert found.to_dict()["coverages"][0]["empirical"]["value"] == found.coverages[0].empirical.value


def test_coverages_that_take_more_images_are_left_out():
    held, truth = seen(30, 0)
    trust, tensors = fit_uncertainty(held, truth, Target(), None)
    found = compute_uncertainty(Calibrator(trust, tensors, Target(), CLASSES), *seen(100, 1))
    assert [one.requested for one in found.coverages] == [0.9, 0.95]
    assert found.false_positive_rate is None and trust.ood_threshold is None


def test_labels_are_calibrated_and_scores_have_ranges():
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(3000, 2, generator=random)
    present = torch.rand(scores.shape, generator=random) < scores.sigmoid()
    target = Target(kind="multilabel", thresholds=[0.5, 0.5])
    trust, tensors = fit_uncertainty(ModelOutput(scores, 4 * scores), present, target, None)
    assert trust.temperature == pytest.approx(4, rel=0.1) and not tensors
    truth = 10 + 2 * scores[:, 0] + torch.randn(3000, generator=random)
    target = Target(kind="regression", mean=10.0, std=2.0)
    parts = [(ModelOutput(scores[part], scores[part, :1]), truth[part]) for part in (slice(1000), slice(1000, 3000))]
    trust, tensors = fit_uncertainty(*parts[0], target, None)
    found = compute_uncertainty(Calibrator(trust, tensors, target, 0), *parts[1])
    assert found.calibrated is None and trust.temperature == 1
    for one in found.coverages:
        assert one.empirical.high > one.requested > one.empirical.low - 0.02
    # Of errors of one deviation, 90% lie within 1.64.
    assert found.coverages[0].mean_size == pytest.approx(2 * 1.64, rel=0.1)
