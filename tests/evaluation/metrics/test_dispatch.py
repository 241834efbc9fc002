import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.config.target import TargetKind
from megavit.evaluation.metrics.classification import compute_classification_metrics
from megavit.evaluation.metrics.dispatch import make_primary_metric
from megavit.evaluation.metrics.multilabel import compute_multilabel_metrics
from megavit.evaluation.metrics.regression import compute_regression_metrics


def drawn_answers(kind: TargetKind, images: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, 3, generator=random)
    match kind:
        case "classification":
            return logits.softmax(dim=1), torch.randint(3, (images,), generator=random)
        case "multilabel":
            return logits.sigmoid(), torch.rand(images, 3, generator=random) < 0.5
        case "regression":
            return logits[:, 0], logits[:, 0] + logits[:, 1]


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_the_metrics_of_each_target_say_with_the_same_interval(seed):
    answers, truth = drawn_answers("classification", 40, seed)
    assert (
        make_primary_metric(answers, truth, "classification").interval()
        == compute_classification_metrics(answers, truth, "abc").accuracy
    )
    answers, truth = drawn_answers("multilabel", 40, seed)
    of_labels = compute_multilabel_metrics(answers, truth, "abc", [0.5] * 3).mean_average_precision
    assert make_primary_metric(answers, truth, "multilabel").interval() == of_labels
    answers, truth = drawn_answers("regression", 40, seed)
    found, of_scores = (
        make_primary_metric(answers, truth, "regression").interval(),
        compute_regression_metrics(answers, truth, mean=0, median=0),
    )
    assert found is not None
    assert (found.value, found.low) == pytest.approx((of_scores.mae.value, of_scores.mae.low))


@given(st.sampled_from(["classification", "multilabel", "regression"]), st.integers(0, 9))
def test_an_image_drawn_twice_counts_as_two_images(kind, seed):
    answers, truth = drawn_answers(kind, 12, seed)
    times = np.random.default_rng(seed).integers(0, 3, size=12)
    places = torch.from_numpy(np.repeat(np.arange(12), times))
    if not len(places):
        return
    weighed = make_primary_metric(answers, truth, kind).compute(times[None].astype(float))[0]
    repeated = make_primary_metric(answers[places], truth[places], kind).compute(np.ones((1, len(places))))[0]
    assert weighed == pytest.approx(repeated, nan_ok=True)


def test_no_images_and_no_labels_have_no_metric():
    answers, truth = drawn_answers("classification", 5)
    assert np.isnan(make_primary_metric(answers, truth, "classification").compute(np.zeros((1, 5)))[0])
    assert make_primary_metric(torch.rand(5, 2), torch.zeros(5, 2, dtype=torch.bool), "multilabel").interval() is None
