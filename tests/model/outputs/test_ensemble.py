"""An ensemble's logits stand for the mean of its models' calibrated outputs."""

import pytest
import torch

from megavit.config.calibration import Calibration
from megavit.config.ensemble import Member
from megavit.config.target import Target
from megavit.errors import ConfigError
from megavit.model.outputs.ensemble import Ensemble
from megavit.model.outputs.logits import logits_to_outputs, outputs_to_logits
from tests.helpers.bundles import make_model

MEMBERS = [
    Member(fold=2, temperature=0.5, smoothing=0.05, mean=3.0, std=2.0),
    Member(fold=1, temperature=2.0, mean=-1.0, std=0.5),
]


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_the_outputs_are_the_mean_of_the_calibrated_outputs(kind):
    classes = 1 if kind == "regression" else 3
    models = [make_model(classes, seed=seed) for seed in (0, 1)]
    target = Target(kind=kind, mean=1.0, std=1.25)
    images = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        found = logits_to_outputs(Ensemble(models, MEMBERS, target).eval()(images), target)
        each = [
            logits_to_outputs(
                model.eval()(images),
                Target(kind=kind, mean=member.mean, std=member.std),
                Calibration(temperature=member.temperature, smoothing=member.smoothing),
            )
            for model, member in zip(models, MEMBERS, strict=True)
        ]
    torch.testing.assert_close(found, torch.stack(each).mean(dim=0))
    assert not torch.allclose(each[0], each[1])


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_certain_outputs_have_finite_logits(kind):
    outputs = torch.tensor([[0.0, 1.0]])
    logits = outputs_to_logits(outputs, Target(kind=kind))
    assert logits.isfinite().all()
    torch.testing.assert_close(logits_to_outputs(logits, Target(kind=kind)), outputs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("change", [{"fold": 0}, {"temperature": 0.0}, {"smoothing": 1.0}, {"std": 0.0}])
def test_a_member_that_cannot_be_is_refused(change):
    with pytest.raises(ConfigError):
        Member(**({"fold": 1} | change))
