"""From logits to what they mean."""

from torch import Tensor

from megavit.config.target import Target


def outputs(logits: Tensor, target: Target, temperature: float = 1.0) -> Tensor:
    """Logits (B, outputs) as answers.

    Args:
        temperature: that the logits of classes and labels are divided by, so that probabilities are what they say
            (arXiv 1706.04599, section 4.2). It changes no order of a single image's classes.

    Returns:
        "classes": (B, classes) probabilities, rows summing to 1; "labels": (B, labels) probabilities, each by
        itself; "score": (B,) scores, in the unit of the training scores.
    """
    match target.kind:
        case "classes":
            return (logits / temperature).softmax(dim=1)
        case "labels":
            return (logits / temperature).sigmoid()
        case "score":
            return logits[:, 0] * target.std + target.mean
