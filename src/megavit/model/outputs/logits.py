"""Convert logits to probabilities or scores, and back."""

import torch
from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.config.target import Target

MIN_PROBABILITY = 1e-7  # lower bound when label smoothing is removed


def logits_to_outputs(
    logits: Tensor,
    target: Target,
    calibration: Calibration = Calibration(),  # noqa: B008 - frozen
) -> Tensor:
    """Return probabilities or scores from logits (B, outputs).

    Args:
        calibration: temperature and smoothing of the probabilities; neither changes the order of an image's classes.

    Returns:
        "classification": (B, classes) probabilities, rows summing to 1; "multilabel": (B, labels) independent
            probabilities; "regression": (B,) scores, in the unit of the training scores.
    """
    match target.kind:
        case "classification":
            shares = (logits / calibration.temperature).softmax(dim=1)
            return remove_smoothing(shares, calibration.smoothing) if calibration.smoothing else shares
        case "multilabel":
            return (logits / calibration.temperature).sigmoid()
        case "regression":
            return logits[:, 0] * target.std + target.mean


def outputs_to_logits(outputs: Tensor, target: Target) -> Tensor:
    """Return the logits (B, outputs) for which `logits_to_outputs`, uncalibrated, gives these outputs.

    Probabilities are clamped to what float32 can tell from 0 and 1.
    """
    limits = torch.finfo(outputs.dtype)
    match target.kind:
        case "classification":
            return outputs.clamp_min(limits.tiny).log()
        case "multilabel":
            return outputs.clamp(limits.tiny, 1 - limits.eps).logit()
        case "regression":
            return ((outputs - target.mean) / target.std)[:, None]


def remove_smoothing(probabilities: Tensor, smoothing: float) -> Tensor:
    """Undo label smoothing in probabilities (B, classes) of a model trained with it (arXiv 1512.00567, section 7)."""
    own = (probabilities - smoothing / probabilities.shape[1]).clamp_min(MIN_PROBABILITY)
    return own / own.sum(dim=1, keepdim=True)
