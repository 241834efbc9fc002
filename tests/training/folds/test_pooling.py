"""What is computed of all folds together is what it would be of their images."""

import pytest
import torch

from megavit.config.calibration import Calibration
from megavit.config.target import Target
from megavit.engine.engine import ModelOutput
from megavit.errors import BundleError
from megavit.evaluation.metrics.bootstrap import Interval
from megavit.evaluation.uncertainty.measure import HeldOutput, compute_pooled_uncertainty, compute_uncertainty
from megavit.evaluation.uncertainty.uncertainty import fit_uncertainty
from megavit.predict.postprocess.postprocess import Calibrator
from megavit.training.folds.baselines import pool_baselines
from megavit.training.folds.outputs import pool_target
from megavit.training.folds.plan import BaselineCounts, FoldRecord, read_record, write_record
from megavit.training.report.cross_validation import find_median_fold


def interval(value: float) -> Interval:
    return Interval(value, value, value)


def test_the_median_fold_is_never_better_than_the_median():
    assert find_median_fold("classification", [interval(0.9), interval(0.5), interval(0.7)]) == 3
    assert find_median_fold("classification", [interval(0.9), interval(0.5)]) == 2
    assert find_median_fold("regression", [interval(0.9), interval(0.5)]) == 1
    assert find_median_fold("multilabel", [None, interval(0.1), interval(0.2)]) == 2


def test_the_uncertainty_of_parts_with_one_calibrator_is_that_of_the_whole():
    random = torch.Generator().manual_seed(0)
    logits, truth = 3 * torch.randn(400, 3, generator=random), torch.randint(3, (400,), generator=random)
    fitted, tensors = fit_uncertainty(ModelOutput(logits, logits), truth, Target(), (logits, truth))
    calibrator = Calibrator(fitted, tensors, Target(), 3)
    whole = compute_uncertainty(calibrator, ModelOutput(logits, logits), truth)
    parts = [HeldOutput(calibrator, ModelOutput(logits[part], logits[part]), truth[part])
             for part in (slice(100), slice(100, 400))]  # fmt: skip
    assert compute_pooled_uncertainty(parts) == whole
    without = HeldOutput(Calibrator(Calibration(), {}, Target(), 3), parts[1].output, parts[1].targets)
    mixed = compute_pooled_uncertainty([parts[0], without])
    assert mixed.coverages == () and mixed.false_positive_rate is None and mixed.images == 400


def test_baselines_are_compared_on_the_images_of_all_folds():
    def record(only_model: int, only_baseline: int, setting: str) -> FoldRecord:
        counts = BaselineCounts(
            method="nearest neighbors",
            setting=setting,
            only_model=only_model,
            only_baseline=only_baseline,
            both=10,
            neither=2,
        )
        return FoldRecord(baselines=[counts], baseline_images=80, baseline_available=90, baseline_seconds=0.5)

    found = pool_baselines([record(9, 1, "k = 1"), record(8, 0, "k = 3")], 0.9, is_pretrained=False)
    assert found is not None and found.seconds == 1.0 and (found.images, found.available) == (80, 90)
    (result,) = found.results
    assert (result.comparison.only_a, result.comparison.only_b, result.comparison.images) == (17, 1, 42)
    assert result.accuracy == pytest.approx(21 / 42) and result.is_surpassed
    assert result.setting == "by fold: k = 1; k = 3"
    assert pool_baselines([record(9, 1, "k = 1"), FoldRecord()], 0.9, is_pretrained=False) is None


def test_targets_are_pooled_by_their_means():
    labels = [Target(kind="multilabel", thresholds=list(pair)) for pair in ((0.2, 0.4), (0.4, 0.8))]
    assert pool_target(labels).thresholds == pytest.approx([0.3, 0.6])
    scores = [Target(kind="regression", mean=mean, std=1.0, median=mean + 1) for mean in (1.0, 3.0)]
    assert pool_target(scores) == Target(kind="regression", mean=2.0, std=1.0, median=3.0)


def test_a_record_is_read_as_it_was_written_or_refused(tmp_path):
    assert read_record(tmp_path) is None
    write_record(tmp_path, FoldRecord(baseline_seconds=2.5))
    assert read_record(tmp_path) == FoldRecord(baseline_seconds=2.5)
    (tmp_path / "fold.json").write_text("{")
    with pytest.raises(BundleError, match="cannot be resumed"):
        read_record(tmp_path)
