"""What averaging brings is measured on images that no averaged model was trained on."""

from dataclasses import replace

import torch

from megavit.config.calibration import Calibration
from megavit.config.target import Target
from megavit.data.dataset import Sample
from megavit.engine.engine import ModelOutput
from megavit.evaluation.metrics.bootstrap import Interval
from megavit.evaluation.metrics.dispatch import compute_metrics
from megavit.evaluation.uncertainty.measure import HeldOutput
from megavit.predict.postprocess.postprocess import Calibrator
from megavit.training.folds.gain import SharedOutputs, find_shared_outputs, measure_gain
from megavit.training.folds.outputs import FoldOutputs
from megavit.training.report.cross_validation import CrossValidation, EnsembleGain, FoldResult

CALIBRATOR = Calibrator(Calibration(), {}, Target(), 2)


def make_fold(number: int, test: dict[str, float], val: dict[str, float]) -> FoldOutputs:
    """A fold whose model gives these images these probabilities of the second class."""

    def held_out(values: dict[str, float]) -> HeldOutput:
        second = torch.tensor(list(values.values()))
        logits = torch.stack([1 - second, second], dim=1).log()
        return HeldOutput(CALIBRATOR, ModelOutput(logits, logits), torch.ones(len(values), dtype=torch.int64))

    def samples(values: dict[str, float]) -> tuple[Sample, ...]:
        return tuple(Sample(name, 1, "test", 8, 8, 1, name) for name in values)

    return FoldOutputs(number, samples(test), held_out(test), samples(val), held_out(val))


def test_two_models_share_the_validation_images_that_a_fold_drew_from_another():
    folds = [make_fold(1, {"a": 0.9, "b": 0.6}, {"c": 0.3}), make_fold(2, {"c": 0.8, "d": 0.1}, {"a": 0.2})]
    shared = find_shared_outputs(folds)
    assert shared is not None and len(shared.models) == 2
    torch.testing.assert_close(shared.models[0][:, 1], torch.tensor([0.8, 0.9]))  # tested: c by 2, a by 1
    torch.testing.assert_close(shared.models[1][:, 1], torch.tensor([0.3, 0.2]))  # validated: c by 1, a by 2
    torch.testing.assert_close(shared.mean[:, 1], torch.tensor([0.55, 0.55]))


def test_all_models_share_the_validation_images_that_the_data_defines():
    val = {"x": 0.5, "y": 0.25}
    folds = [make_fold(number, {f"{number}": 0.5}, {name: value / number for name, value in val.items()})
             for number in (1, 2, 3)]  # fmt: skip
    shared = find_shared_outputs(folds)
    assert shared is not None and len(shared.models) == 3
    torch.testing.assert_close(shared.models[1][:, 1], torch.tensor([0.25, 0.125]))
    assert find_shared_outputs([make_fold(1, {"a": 0.5}, {"b": 0.5}), make_fold(2, {"c": 0.5}, {"d": 0.5})]) is None


def noisy(noise: float, seed: int) -> torch.Tensor:
    """Logits of two classes, the second of which is true."""
    random = torch.Generator().manual_seed(seed)
    return torch.stack([torch.zeros(600), 1 + noise * torch.randn(600, generator=random)], dim=1)


def test_models_that_err_independently_gain_and_equal_ones_do_not():
    targets = torch.ones(600, dtype=torch.int64)
    gain = measure_gain(SharedOutputs((noisy(1.5, 0).softmax(1), noisy(1.5, 1).softmax(1)), targets), "classification")
    assert gain is not None and gain.is_significant and gain.models == 2 and gain.images == 600
    assert gain.difference.value > 0.02 and abs(gain.mean - gain.single - gain.difference.value) < 1e-9
    assert gain.p_value is not None and gain.p_value < 0.05
    same = noisy(1.5, 0).softmax(1)
    none = measure_gain(SharedOutputs((same, same), targets), "classification")
    assert none is not None and not none.is_significant and none.difference.value == 0 and none.p_value == 1


def test_scores_gain_what_their_errors_lose():
    random = torch.Generator().manual_seed(0)
    targets = torch.randn(200, generator=random)
    models = tuple(targets + torch.randn(200, generator=random) for _ in range(3))
    gain = measure_gain(SharedOutputs(models, targets), "regression")
    assert gain is not None and gain.is_significant and gain.p_value is None and gain.mean < gain.single
    assert (
        measure_gain(SharedOutputs((torch.rand(9, 2),) * 2, torch.zeros(9, 2, dtype=torch.bool)), "multilabel") is None
    )


def test_what_is_said_is_what_was_measured():
    def found(gain: EnsembleGain | None, *, is_ensemble: bool, minutes: float | None = None) -> list[str]:
        metric = Interval(0.9, 0.8, 1.0)
        folds = tuple(
            FoldResult(fold=number, run=f"run/{number}", images={"train": 6, "val": 2, "test": 4}, metric=metric)
            for number in (1, 2)
        )
        return CrossValidation(
            kind="classification",
            metrics=compute_metrics(torch.eye(2), torch.tensor([0, 1]), ("a", "b"), Target()),
            folds=folds,
            untested=0,
            selected=2,
            is_ensemble=is_ensemble,
            gain=gain,
            minutes=minutes,
        ).describe()

    difference = Interval(0.1, 0.02, 0.2)
    better = EnsembleGain(models=2, images=50, single=0.8, mean=0.9, difference=difference, p_value=0.01)
    said = found(better, is_ensemble=True)
    assert "+10.00 points (95%: +2.00 to +20.00) in accuracy; sign test: p = 0.01, which is more than chance" in said[1]
    assert "mean of the calibrated outputs of all 2 models" in said[2] and "could not be measured" in said[3]
    chance = replace(better, p_value=0.2)
    assert not any("minutes" in line for line in said)
    timed = found(better, is_ensemble=True, minutes=2.0)
    assert timed[:-1] == said and "trained for 2 minutes, the time divided by the folds" in timed[-1]
    said = found(chance, is_ensemble=False)
    assert "may be chance" in said[1] and said[2].startswith("So the bundle has one model, that of fold 2")
    assert found(None, is_ensemble=False)[1].startswith("The bundle has one model")
