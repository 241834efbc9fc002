"""From logits to what they mean."""

from torch import Tensor

from megavit.config.target import Target
from megavit.config.trust import Trust

# Of a class whose share of the smoothing is all that it had.
LEAST = 1e-7


def outputs(logits: Tensor, target: Target, trust: Trust = Trust()) -> Tensor:  # noqa: B008 - frozen
    """Logits (B, outputs) as answers.

    Args:
        trust: whose temperature and smoothing make probabilities what they say. Neither changes the order of an
            image's classes.

    Returns:
        "classes": (B, classes) probabilities, rows summing to 1; "labels": (B, labels) probabilities, each by
        itself; "score": (B,) scores, in the unit of the training scores.
    """
    match target.kind:
        case "classes":
            shares = (logits / trust.temperature).softmax(dim=1)
            return without_smoothing(shares, trust.smoothing) if trust.smoothing else shares
        case "labels":
            return (logits / trust.temperature).sigmoid()
        case "score":
            return logits[:, 0] * target.std + target.mean


def without_smoothing(shares: Tensor, smoothing: float) -> Tensor:
    """Probabilities (B, classes) of a model that has learnt to spread the share `smoothing` of each evenly.

    That is what label smoothing teaches (arXiv 1512.00567, section 7).
    """
    own = (shares - smoothing / shares.shape[1]).clamp_min(LEAST)
    return own / own.sum(dim=1, keepdim=True)
