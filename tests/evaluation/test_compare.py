"""Comparisons of two models count, test and list their differences correctly."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megavit.config.target import Target
from megavit.data.dataset import Sample
from megavit.errors import DataError
from megavit.evaluation.compare import (
    Comparison,
    PairedOutputs,
    align_outputs,
    check_comparable,
    compare_outputs,
    find_disagreements,
)
from megavit.evaluation.metrics.multilabel import compute_multilabel_metrics
from megavit.predict.predictor import load
from tests.helpers.bundles import make_bundle, make_model

CLASSES = Target()
LABELS = Target(kind="multilabel", thresholds=[0.5, 0.25])
SCORE = Target(kind="regression")
NAMES = ("cat", "dog", "newt")


def samples(count: int) -> list[Sample]:
    return [Sample(f"{i}.png", 0, "test", 8, 8, 3, f"{i:016}") for i in range(count)]


def saying(classes: list[int], sure: float = 0.8) -> torch.Tensor:
    shares = torch.full((len(classes), 3), (1 - sure) / 2)
    shares[torch.arange(len(classes)), torch.tensor(classes)] = sure
    return shares


def paired(a: torch.Tensor, b: torch.Tensor, truth: torch.Tensor, target: Target = CLASSES) -> PairedOutputs:
    return PairedOutputs(a, b, truth, target, target)


def compared(only_a: int, only_b: int, both: int = 0, neither: int = 0) -> Comparison:
    """The truth is class 0 everywhere."""
    a = [0] * only_a + [1] * only_b + [0] * both + [1] * neither
    b = [1] * only_a + [0] * only_b + [0] * both + [2] * neither
    return compare_outputs(paired(saying(a), saying(b), torch.zeros(len(a), dtype=torch.int64)))


def test_the_images_are_counted_by_which_model_is_correct():
    found = compared(7, 2, 30, 4)
    assert (found.images, found.only_a, found.only_b, found.both, found.neither) == (43, 7, 2, 30, 4)
    (difference,) = found.differences
    assert (difference.metric, difference.a, difference.b) == ("accuracy", 37 / 43, 32 / 43)
    assert difference.difference.value == pytest.approx(5 / 43)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"), [(0, 0, 1.0), (5, 0, 2 / 32), (0, 6, 2 / 64), (9, 1, 22 / 1024), (4, 4, 1.0)]
)
def test_the_p_value_is_mcnemars_exact_one(only_a, only_b, p):
    assert compared(only_a, only_b, both=10).p_value == pytest.approx(p)


@settings(max_examples=20)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 30))
def test_changing_places_changes_the_signs_and_nothing_else(only_a, only_b, both):
    one, other = compared(only_a, only_b, both), compared(only_b, only_a, both)
    assert one.p_value == pytest.approx(other.p_value)
    assert one.differences[0].difference.value == pytest.approx(-other.differences[0].difference.value)
    assert {one.better, other.better} in ({"neither"}, {"A", "B"})


def test_a_model_is_better_only_where_interval_and_test_agree():
    assert compared(40, 10, 100).better == "A"
    assert compared(10, 40, 100).better == "B"
    assert compared(12, 10, 100).better == "neither"
    few = compared(5, 0, 100)  # the bootstrap alone would be sure
    assert few.differences[0].difference.low > 0 and few.p_value is not None and few.p_value > 0.05
    assert few.better == "neither"


def test_a_model_compared_with_itself_has_no_difference():
    answers, truth = torch.rand(20, 3).softmax(dim=1), torch.randint(3, (20,))
    found = compare_outputs(paired(answers, answers, truth))
    assert (found.differences[0].difference.low, found.differences[0].difference.high, found.p_value) == (0, 0, 1)
    assert find_disagreements(paired(answers, answers, truth), NAMES, samples(20)) == []


def label_answers() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    truth = torch.rand(200, 2, generator=random) < 0.4
    noise = torch.randn(2, 200, 2, generator=random)
    good, bad = (truth * 4.0 - 2 + noise[0]).sigmoid(), (truth * 1.0 - 0.5 + noise[1]).sigmoid()
    return good, bad, truth


def test_labels_differ_in_mean_average_precision_first_and_in_exact_matches():
    good, bad, truth = label_answers()
    found = compare_outputs(paired(good, bad, truth, LABELS))
    precision, exact = found.differences
    assert (precision.metric, exact.metric) == ("mean average precision", "all labels right")
    alone = [compute_multilabel_metrics(answers, truth, ["x", "y"], LABELS.thresholds) for answers in (good, bad)]
    means = [one.mean_average_precision.value for one in alone if one.mean_average_precision]
    assert [precision.a, precision.b] == pytest.approx(means)
    assert (exact.a, exact.b) == pytest.approx((alone[0].exact_match.value, alone[1].exact_match.value))
    assert precision.difference.low > 0 and found.better == "A"
    assert sum(count or 0 for count in (found.only_a, found.only_b, found.both, found.neither)) == 200
    assert compare_outputs(paired(bad, good, truth, LABELS)).better == "B"


def test_scores_are_better_where_the_error_is_smaller():
    random = torch.Generator().manual_seed(0)
    truth = torch.randn(100, generator=random)
    near, far = truth + 0.1 * torch.randn(100, generator=random), truth + torch.randn(100, generator=random)
    found = compare_outputs(paired(near, far, truth, SCORE))
    (difference,) = found.differences
    assert difference.metric == "mean absolute error"
    assert difference.difference.high < 0 and found.better == "A" and found.p_value is None and found.only_a is None
    assert difference.difference.value == pytest.approx(difference.a - difference.b)
    assert compare_outputs(paired(far, near, truth, SCORE)).better == "B"


def test_the_images_that_changed_are_named_with_both_predictions():
    truth = torch.tensor([0, 0, 0, 0])
    a, b = saying([0, 0, 1, 1], 0.9), saying([0, 1, 0, 2], 0.7)
    found = find_disagreements(paired(a, b, truth), NAMES, samples(4))
    assert [(one.path, one.correct) for one in found] == [("1.png", "A"), ("2.png", "B"), ("3.png", "neither")]
    assert (found[2].truth, found[2].prediction_a, found[2].prediction_b) == ("cat", "dog", "newt")
    assert (found[0].probability_a, found[0].probability_b) == pytest.approx((0.9, 0.7))


def test_labels_and_scores_that_changed_are_written_as_tables_have_them():
    truth = torch.tensor([[True, True], [False, False]])
    a, b = torch.tensor([[0.9, 0.3], [0.1, 0.1]]), torch.tensor([[0.9, 0.2], [0.1, 0.1]])
    (one,) = find_disagreements(paired(a, b, truth, LABELS), ("x", "y"), samples(2))
    assert (one.truth, one.prediction_a, one.prediction_b, one.correct, one.probability_a) == (
        "x|y",
        "x|y",
        "x",
        "A",
        None,
    )
    a, b, truth = (torch.tensor(values) for values in ([1.0, 2.0, 3.0], [1.5, 2.0, 2.0], [1.25, 9.0, 2.0]))
    found = find_disagreements(paired(a, b, truth, SCORE), (), samples(3))
    assert [(one.path, one.correct, one.prediction_a) for one in found] == [("0.png", "both", "1"), ("2.png", "B", "3")]


# two bundles


def test_classes_in_another_order_are_put_in_order_by_name(tmp_path: Path):
    make_bundle(tmp_path / "b", labels=("newt", "cat", "dog"))
    other = load(tmp_path / "b", device="cpu")
    answers, target = align_outputs(NAMES, other, torch.tensor([[0.5, 0.3, 0.2]]))
    assert answers[0].tolist() == pytest.approx([0.3, 0.2, 0.5])
    assert target.kind == "classification"


def test_thresholds_go_with_their_labels(tmp_path: Path):
    make_bundle(
        tmp_path / "b",
        labels=("newt", "cat", "dog"),
        target=Target(kind="multilabel", thresholds=[0.1, 0.2, 0.3]),
        metrics={},
    )
    answers, target = align_outputs(NAMES, load(tmp_path / "b", device="cpu"), torch.tensor([[0.5, 0.3, 0.2]]))
    assert target.thresholds == [0.2, 0.3, 0.1]
    assert answers[0].tolist() == pytest.approx([0.3, 0.2, 0.5])


def test_other_classes_and_other_targets_are_refused_by_name(tmp_path: Path):
    make_bundle(tmp_path / "a")
    make_bundle(tmp_path / "b", labels=("cat", "dog", "owl"))
    make_bundle(tmp_path / "c", model=make_model(1), labels=(), target=SCORE, metrics={})
    a, b, c = (load(tmp_path / name, device="cpu") for name in "abc")
    with pytest.raises(DataError, match=r"same classes.*only .*a has 'newt'; only .*b has 'owl'"):
        check_comparable(a, b)
    with pytest.raises(DataError, match=r"that of .*a is classification and that of .*c is regression"):
        check_comparable(a, c)
    check_comparable(a, a)
