from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from megavit.config.target import Target
from megavit.errors import TrainingError
from megavit.evaluation.metrics import significance
from megavit.evaluation.probes.cross_validation import Fold
from megavit.training.finetune.progressive import FrozenFeatures, TrainMethod, describe, progressive_finetune
from megavit.training.history import TuneResult
from megavit.training.optim.loss import BinaryCrossEntropy, CrossEntropy, SmoothL1
from tests.helpers.training import make_task

IMAGES, CLASSES = 60, 3
TASK = replace(make_task(), loss=CrossEntropy(), num_classes=CLASSES)
SPLIT = Fold(torch.arange(40), torch.arange(40, IMAGES))


def frozen(spread: float = 0.4) -> FrozenFeatures:
    random = torch.Generator().manual_seed(0)
    targets = torch.arange(IMAGES) % CLASSES
    embeddings = F.one_hot(targets, 5).float() + spread * torch.randn(IMAGES, 5, generator=random)
    return FrozenFeatures(embeddings, targets, TASK, torch.zeros(CLASSES), seconds=1.0, split=SPLIT)


def answering(frozen: FrozenFeatures, accuracy: dict[str, float], certainty: dict[str, float]):
    """A `TrainMethod` whose logits are right for that share of the images; None for a method that has none."""
    asked: list[str] = []

    def train(method, probe):
        asked.append(method)
        assert probe.weight.shape == (CLASSES, 5)
        if method not in accuracy:
            return None
        indices = frozen.split.held_out
        shift = (torch.arange(len(indices)) >= accuracy[method] * len(indices)).long()
        logits = F.one_hot((frozen.labels[indices] + shift) % CLASSES, CLASSES).float()
        return certainty.get(method, 1.0) * logits, 2.0, "steps"

    return train, asked


def always(logits: torch.Tensor) -> TrainMethod:
    return lambda method, probe: (logits, 1.0, "")


def tuned(accuracy, spread=1.5, methods=("last", "lora", "all"), requested=None, certainty=None):
    reported: list[TuneResult] = []
    features = frozen(spread)
    train, asked = answering(features, accuracy, certainty or {})
    selection = progressive_finetune(features, methods, train, reported.append, requested=requested)
    assert reported == selection.results
    return selection.results, selection.method, selection.reason, asked


def test_every_method_is_tried_and_the_highest_is_kept_even_if_its_gain_may_be_chance():
    found, kept, reason, asked = tuned({"last": 0.85, "lora": 0.9, "all": 0.3})
    assert [result.method for result in found] == ["knn", "probe", *asked] and asked == ["last", "lora", "all"]
    assert [result.baseline for result in found[2:]] == ["probe", "last", "lora"]
    p_value = found[3].p_value
    assert p_value is not None and p_value > 0.1  # chance may well do that
    assert (kept, reason) == ("lora", "it is the best on the held-out images")


def test_a_worse_method_does_not_keep_the_next_from_its_turn():
    _, kept, _, asked = tuned({"last": 0.2, "lora": 0.1, "all": 1.0})
    assert kept == "all" and len(asked) == 3


def test_the_probe_is_not_left_for_a_gain_that_chance_explains():
    probe = tuned({}, methods=(), spread=0.5)[0][1].value
    slightly = probe + 1.01 / len(SPLIT.held_out)
    found, kept, _, _ = tuned({"last": slightly}, methods=("last",), spread=0.5, certainty={"last": 0.0001})
    assert found[2].value > probe and found[2].p_value is not None and found[2].p_value >= 0.5
    assert kept == "probe"


def test_where_no_method_is_better_the_probe_stays():
    found, kept, reason, _ = tuned({"last": 0.2, "lora": 0.2, "all": 0.2}, spread=0.2)
    assert (kept, reason) == ("probe", "no other method is better on the held-out images by more than chance explains")
    assert found[-1].p_value == 1


def test_of_equal_methods_the_one_with_the_lower_loss_is_kept():
    equal = {"last": 1.0, "lora": 1.0, "all": 1.0}
    assert tuned(equal, certainty={"lora": 3.0, "all": 2.0})[1] == "lora"
    assert tuned(equal)[1] == "last"


def test_where_there_is_no_time_it_says_so():
    found, kept, reason, asked = tuned({})
    assert (kept, reason) == ("probe", "there was no time left for last") and len(found) == 2 and asked == ["last"]
    _, kept, reason, asked = tuned({"last": 1.0})
    assert kept == "last" and asked == ["last", "lora"]
    assert reason == "it is the best on the held-out images; there was no time left for lora"


def test_a_requested_method_is_kept_unless_it_is_worse_than_its_start():
    probe = tuned({}, methods=())[0][1].value
    _, kept, reason, _ = tuned({"all": probe}, methods=("all",), requested="all", certainty={"all": 0.0001})
    assert (kept, reason) == ("all", "it was requested")
    found, kept, reason, _ = tuned({"all": 0.1}, methods=("all",), requested="all")
    assert (kept, reason) == ("probe", "all was requested, but is worse on the held-out images")
    assert found[-1].method == "all" and found[-1].value < probe
    found, kept, reason, _ = tuned({}, methods=(), requested="probe")
    assert (kept, reason) == ("probe", "it was requested") and [result.method for result in found] == ["knn", "probe"]
    assert tuned({}, methods=("all",), requested="all")[1:3] == ("probe", "there was no time left for all")


def test_a_method_that_diverges_is_left_out_and_said():
    def diverge(method, probe):
        if method == "lora":
            raise TrainingError("the loss is not finite")

    selection = progressive_finetune(frozen(), ("lora", "last"), diverge, lambda result: None)
    assert selection.method == "probe"
    assert selection.reason == "lora failed, as the loss is not finite; there was no time left for last"


def test_held_out_images_are_not_learned():
    features = frozen(spread=3.0)
    result = progressive_finetune(features, (), always(torch.zeros(0)), lambda result: None).results[1]
    # A probe that has learned images of five random features would have more of them right.
    whole = replace(features, split=Fold(torch.arange(IMAGES), SPLIT.held_out))
    learned = progressive_finetune(whole, (), always(torch.zeros(0)), lambda result: None).results[1]
    assert result.value < learned.value


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_labels_and_scores_are_compared_by_their_own_metric(kind, monkeypatch):
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
    features = FrozenFeatures(base.embeddings, targets, task, torch.zeros(task.num_classes), 0.0, SPLIT)
    for logits, kept in ((worse, "probe"), (better, "lora")):
        random = torch.randn(60, 2, generator=torch.Generator().manual_seed(2))
        own = replace(features, embeddings=random) if kept == "lora" else features
        selection = progressive_finetune(own, ("lora",), always(logits), lambda result: None)
        found = selection.results
        assert selection.method == kept and found[-1].p_value is not None
    assert "p = " in describe(found[-1], task.metric)
