"""Make an ensemble of the models of all folds."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import torch

from megavit.config.ensemble import Member
from megavit.engine.engine import ModelOutput
from megavit.evaluation.metrics.multilabel import fit_thresholds
from megavit.evaluation.uncertainty.uncertainty import fit_uncertainty
from megavit.model.outputs.ensemble import Ensemble
from megavit.model.outputs.logits import logits_to_outputs, outputs_to_logits
from megavit.predict.postprocess.postprocess import MEANS, WHITENING
from megavit.training.folds.gain import SharedOutputs
from megavit.training.folds.outputs import pool_target
from megavit.weights.bundle.bundle import Bundle


def can_average(bundles: Sequence[Bundle]) -> bool:
    """Return whether the models of these bundles are of the same sizes, and get the same images."""
    first = bundles[0].info
    return all(one.info.model == first.model and one.info.preprocessing == first.preprocessing for one in bundles)


def make_ensemble(bundles: Sequence[Bundle], folds: Sequence[int], shared: SharedOutputs) -> Bundle:
    """Return a bundle of the models of several, which have been trained in these folds.

    Thresholds, temperature and prediction sets are fitted on `shared`, the mean of models that were not trained on the
    images. Out-of-distribution detection, like the embeddings, is that of the first model.
    """
    first = bundles[0]
    target = pool_target([bundle.info.target for bundle in bundles])
    members = [
        Member(
            fold=fold,
            temperature=bundle.info.calibration.temperature,
            smoothing=bundle.info.calibration.smoothing,
            mean=bundle.info.target.mean,
            std=bundle.info.target.std,
        )
        for fold, bundle in zip(folds, bundles, strict=True)
    ]
    logits = outputs_to_logits(shared.mean, target)
    held_out = ModelOutput(torch.zeros(len(logits), 1), logits)
    calibration, tensors = fit_uncertainty(held_out, shared.targets, target, None)
    if target.kind == "multilabel":
        outputs = logits_to_outputs(logits, target, calibration)
        target = replace(target, thresholds=fit_thresholds(outputs, shared.targets))
    detection = first.info.calibration
    calibration = replace(
        calibration, ood_threshold=detection.ood_threshold, ood_false_alarm_rate=detection.ood_false_alarm_rate
    )
    known = first.calibration_tensors
    tensors |= {name: known[name] for name in (MEANS, WHITENING) if name in known}
    info = replace(
        first.info,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        metrics={},
        target=target,
        calibration=calibration,
        ensemble=members,
    )
    model = Ensemble([bundle.single_model for bundle in bundles], members, target).eval()
    return Bundle(first.folder, info, model, tensors)
