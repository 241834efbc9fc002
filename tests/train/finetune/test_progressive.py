from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from megavit.config.target import Target
from megavit.evaluate.metrics import significance
from megavit.evaluate.probes.cross_validation import Fold, make_folds
from megavit.train.finetune.progressive import FrozenFeatures, TrainMethod, describe, progressive_finetune
from megavit.train.history import TuneResult
from megavit.train.optim.loss import BinaryCrossEntropy, CrossEntropy, SmoothL1
from tests.helpers.training import make_task

IMAGES, CLASSES = 60, 3
TASK = replace(make_task(), loss=CrossEntropy(), num_classes=CLASSES)
WHOLE = [Fold(torch.arange(40), torch.arange(40, IMAGES))]


def frozen(spread: float = 0.4, folds: list[Fold] = WHOLE) -> FrozenFeatures:
    random = torch.Generator().manual_seed(0)
    targets = torch.arange(IMAGES) % CLASSES
    embeddings = F.one_hot(targets, 5).float() + spread * torch.randn(IMAGES, 5, generator=random)
    return FrozenFeatures(embeddings, targets, TASK, torch.zeros(CLASSES), seconds=1.0, folds=folds)


def answering(frozen: FrozenFeatures, accuracy: dict[str, float]):
    """A `TrainMethod` whose logits are right for that share of the images; None for a method that has none."""
    asked: list[tuple[str, int, int]] = []

    def train(method, probes, left):
        asked.append((method, len(probes), left))
        if method not in accuracy:
            return None
        indices = frozen.held_out
        shift = (torch.arange(len(indices)) >= accuracy[method] * len(indices)).long()
        return F.one_hot((frozen.labels[indices] + shift) % CLASSES, CLASSES).float(), 2.0, "steps"

    return train, asked


def always(logits: torch.Tensor) -> TrainMethod:
    return lambda method, probes, left: (logits, 1.0, "")


def tuned(accuracy, folds=WHOLE, spread=1.5, methods=("lora", "last", "all"), **changes):
    reported: list[TuneResult] = []
    features = frozen(spread, folds)
    train, asked = answering(features, accuracy)
    selection = progressive_finetune(features, methods, train, reported.append, **({"keep_last": False} | changes))
    assert reported == selection.results
    return selection.results, selection.method, selection.reason, asked


def test_methods_follow_while_each_is_better_by_more_than_chance_and_the_best_is_kept():
    found, kept, reason, asked = tuned({"lora": 0.85, "last": 0.9, "all": 1.0})
    assert [result.method for result in found] == ["knn", "probe", "lora", "last"]
    assert (
        found[2].is_better and found[2].baseline == "probe" and not found[3].is_better and found[3].baseline == "lora"
    )
    assert kept == "lora" and reason.startswith("the gain of last over lora may be chance (p = 0.")
    assert asked == [("lora", 1, 3), ("last", 1, 2)]


def test_a_method_that_is_worse_ends_it():
    found, kept, reason, _ = tuned({"lora": 0.2}, spread=0.2)
    assert (kept, reason) == ("probe", "lora is no better than probe") and found[-1].p_value == 1


def test_the_last_method_can_win():
    _, kept, reason, _ = tuned({"lora": 1.0}, methods=("lora",))
    assert (kept, reason) == ("lora", "it is the last method")


def test_where_there_is_no_time_it_says_so():
    found, kept, reason, _ = tuned({})
    assert (kept, reason) == ("probe", "there was no time left for lora") and len(found) == 2


def test_a_method_that_was_asked_for_is_kept_even_if_it_is_worse():
    found, kept, reason, _ = tuned({"all": 0.1}, methods=("all",), keep_last=True)
    assert (kept, reason) == ("all", "it was requested") and not found[-1].is_better
    found, kept, _, _ = tuned({}, methods=(), keep_last=True)
    assert kept == "probe" and [result.method for result in found] == ["knn", "probe"]


def test_in_cross_validation_every_image_is_answered_for_by_a_probe_that_did_not_learn_it():
    divisions = make_folds(frozen().labels)
    found, kept, _, asked = tuned({"lora": 1.0, "last": 1.0}, divisions, spread=1.5)
    assert asked[0] == ("lora", len(divisions), 3) and kept == "lora"
    assert 0.3 < found[1].value < 1  # of separable embeddings a probe that learned them would have all right
    assert all(result.seconds >= 1 for result in found)


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_labels_and_scores_climb_by_their_own_metric(kind, monkeypatch):
    monkeypatch.setattr(significance, "RESAMPLES", 100)
    base = frozen(0.1)
    if kind == "multilabel":
        targets = F.one_hot(base.labels, CLASSES).bool()
        task = replace(TASK, target=Target(kind="multilabel", thresholds=[0.5] * CLASSES), loss=BinaryCrossEntropy())
        worse, better = torch.randn(20, CLASSES, generator=torch.Generator().manual_seed(0)), targets[40:].float()
    else:
        targets = base.labels.float() * 10
        target = Target(kind="regression", mean=targets.mean().item(), std=targets.std().item())
        task = replace(TASK, target=target, num_classes=1, loss=SmoothL1(target.mean, target.std))
        better = (targets[40:, None] - target.mean) / target.std
        worse = torch.zeros(20, 1)
    features = FrozenFeatures(base.embeddings, targets, task, torch.zeros(task.num_classes), 0.0, WHOLE)
    for logits, kept in ((worse, "probe"), (better, "lora")):
        random = torch.randn(60, 2, generator=torch.Generator().manual_seed(2))
        own = replace(features, embeddings=random) if kept == "lora" else features
        selection = progressive_finetune(own, ("lora",), always(logits), lambda result: None, keep_last=False)
        found = selection.results
        assert selection.method == kept and found[-1].p_value is not None
    assert "p = " in describe(found[-1], task.metric)
