"""Pseudo-labels are used where they make unseen images more often correct, and only there."""

from dataclasses import replace

import pytest
import torch

from megavit.training.finetune.pseudo_labels import comparison
from megavit.training.finetune.pseudo_labels.comparison import compare_pseudo_labels
from megavit.training.history import PseudoLabelGain, PseudoLabelSummary
from tests.training.finetune.pseudo_labels.conftest import Embedded, make_embedded


def test_the_gain_is_that_of_the_images_that_were_held_out(embedded: Embedded) -> None:
    found = compare_pseudo_labels(embedded.frozen, embedded.unlabeled, embedded.digests, 0.5)
    gain = found.gain
    assert gain.images == len(embedded.frozen.labels) and gain.metric == "accuracy"
    assert gain.with_labels - gain.without == pytest.approx((gain.gained - gain.lost) / gain.images)
    assert gain.is_better if gain.gained > gain.lost else not gain.is_better or gain.gained == gain.lost
    assert 0 < gain.p_value <= 1


def test_the_probe_with_pseudo_labels_is_another_and_better_on_new_images(embedded: Embedded) -> None:
    found = compare_pseudo_labels(embedded.frozen, embedded.unlabeled, embedded.digests, 0.5)
    frozen, new = embedded.frozen, make_embedded(0.35)
    without, student = frozen.fit_probe(frozen.split.train), found.fit_probe(frozen.split.train)
    taught = replace(frozen, fit_student=found.fit_probe)
    assert torch.equal(taught.fit_probe(frozen.split.train, 0.3).weight, student.weight)
    is_own = new.classes >= 0
    right = [
        (probe.logits(new.unlabeled[is_own]).argmax(dim=1) == new.classes[is_own]).double().mean()
        for probe in (without, student)
    ]
    assert not torch.equal(without.weight, student.weight) and right[1] > right[0]


def test_where_no_label_is_certain_enough_nothing_is_used(embedded: Embedded) -> None:
    gain = compare_pseudo_labels(embedded.frozen, embedded.unlabeled, embedded.digests, 0.9999).gain
    assert not gain.is_better and gain.without == gain.with_labels and gain.gained == gain.lost == 0


def test_wrong_labels_are_not_used(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    class Confused(comparison.PseudoLabeler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            self.labels = [replace(one, classes=(one.classes + 1) % 3) for one in self.labels]

    monkeypatch.setattr(comparison, "PseudoLabeler", Confused)
    gain = compare_pseudo_labels(embedded.frozen, embedded.unlabeled, embedded.digests, 0.5).gain
    assert not gain.is_better and gain.lost > gain.gained and gain.p_value > 0.5


def test_a_summary_says_what_was_used_refused_and_gained() -> None:
    gain = PseudoLabelGain(
        images=50,
        metric="accuracy",
        without=0.5,
        with_labels=0.56,
        loss_without=1.2,
        loss_with_labels=1.1,
        gained=5,
        lost=2,
        p_value=0.2266,
        is_better=True,
    )
    summary = PseudoLabelSummary(source="heap", used={"a": 30, "b": 1200}, refused={"blurred": 70}, gain=gain)
    assert summary.describe() == [
        "1,230 of 1,300 images without labels got a predicted one: a 30, b 1,200",
        "70 refused: 70 blurred",
        "with them accuracy 56.0% instead of 50.0% in cross-validation on 50 labeled images (5 more correct, 2 fewer; "
        "McNemar's exact test: p = 0.23): they are used",
    ]
    worse = replace(summary, gain=replace(gain, is_better=False), used={}, refused={})
    assert worse.describe()[0] == "0 of 0 images without labels would get a predicted one: none"
    assert worse.describe()[-1].endswith("they are not used, as that is not better")
    many = replace(summary, used={f"class {number}": 1 for number in range(40)})
    assert many.describe()[0].endswith("class 29 1 and 10 other classes")
