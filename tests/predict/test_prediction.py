"""A prediction answers what its model was trained for, and nothing else."""

import pytest
import torch

from megavit.config.calibration import Calibration
from megavit.config.target import Target
from megavit.model.outputs.logits import logits_to_outputs
from megavit.predict.prediction import Prediction, PredictionResult
from megavit.predict.predictor import load
from tests.helpers.bundles import make_bundle, make_model

RANKED = (("cat", 0.75), ("dog", 0.25))
KINDS = {
    "label": Prediction(top=RANKED),
    "labels": Prediction(top=RANKED, assigned=RANKED[:1]),
    "score": Prediction(value=2.5),
}
LABELS_METRICS = {"mean_average_precision": None, "images": 4, "chance_level": 0.5}
ERROR = {"value": 0.5, "low": 0.4, "high": 0.6}
SCORE_METRICS = {"mae": ERROR, "images": 4, "median": 1, "baseline_mae": 2, "min_target": 0, "max_target": 9}


def test_each_kind_has_its_answer():
    assert (KINDS["label"].label, KINDS["label"].probability) == ("cat", 0.75)
    assert KINDS["labels"].labels == RANKED[:1]
    assert Prediction(top=RANKED, assigned=()).labels == ()
    assert KINDS["score"].score == 2.5


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_prediction_has_not_is_an_error_that_says_what_it_has(kind):
    others = {"label", "probability", "labels", "score"} - {kind} - ({"probability"} if kind == "label" else set())
    for name in others:
        assert not hasattr(KINDS[kind], name)
        with pytest.raises(AttributeError, match=f"no {name}: .* it has {kind}"):
            getattr(KINDS[kind], name)


def test_every_kind_is_written_as_json_types():
    top = [{"label": "cat", "probability": 0.75}, {"label": "dog", "probability": 0.25}]
    assert KINDS["label"].to_dict() == {"label": "cat", "probability": 0.75, "top": top}
    assert KINDS["labels"].to_dict() == {"labels": top[:1], "top": top}
    assert PredictionResult("a.png", KINDS["score"], None).to_dict() == {"path": "a.png", "score": 2.5}


def test_outputs_are_shares_of_classes_chances_of_labels_and_scores_in_their_unit():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(logits_to_outputs(logits, Target()).sum(dim=1), torch.ones(5))
    assert torch.equal(logits_to_outputs(logits, Target(kind="multilabel")), logits.sigmoid())
    values = logits_to_outputs(logits[:, :1], Target(kind="regression", mean=10.0, std=2.0))
    assert torch.equal(values, logits[:, 0] * 2 + 10)


def test_calibration_changes_no_order_and_keeps_shares():
    logits = 5 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    plain = logits_to_outputs(logits, Target())
    for calibration in (Calibration(temperature=0.3), Calibration(temperature=3.0), Calibration(smoothing=0.2)):
        found = logits_to_outputs(logits, Target(), calibration)
        torch.testing.assert_close(found.sum(dim=1), torch.ones(50))
        assert torch.equal(found.argmax(dim=1), plain.argmax(dim=1))
        assert (found > 0).all() and ((found[:, :-1] >= found[:, 1:]) | (plain[:, :-1] <= plain[:, 1:])).all()


def test_a_bundle_of_labels_gives_those_that_reach_their_threshold(tmp_path):
    target = Target(kind="multilabel", thresholds=[1e-6, 1.0, 1e-6])
    make_bundle(tmp_path / "b", target=target, metrics=LABELS_METRICS)
    predictor = load(tmp_path / "b", verify=True)
    assert predictor.target == "multilabel"
    one = predictor.predict(torch.zeros(3, 8, 8, dtype=torch.uint8), top=1)
    assert {label for label, _ in one.labels} == {"cat", "newt"} and len(one.top) == 1
    assert [share for _, share in one.labels] == sorted((share for _, share in one.labels), reverse=True)


def test_a_bundle_of_scores_answers_in_their_unit(tmp_path):
    model = make_model(1)
    scores = []
    for place, (mean, std) in enumerate([(0.0, 1.0), (100.0, 3.0)]):
        target = Target(kind="regression", mean=mean, std=std)
        make_bundle(tmp_path / f"{place}", model, labels=(), target=target, metrics=SCORE_METRICS)
        predictor = load(tmp_path / f"{place}")
        scores.append(predictor.predict(torch.zeros(3, 8, 8, dtype=torch.uint8)).score)
        assert predictor.labels == ()
    assert scores[1] == pytest.approx(100 + 3 * scores[0], rel=1e-6)
