"""From logits to what they mean."""

from torch import Tensor

from megavit.config.target import Target


def outputs(logits: Tensor, target: Target) -> Tensor:
    """Logits (B, outputs) as answers.

    Returns:
        "classes": (B, classes) probabilities, rows summing to 1; "labels": (B, labels) probabilities, each by
        itself; "score": (B,) scores, in the unit of the training scores.
    """
    match target.kind:
        case "classes":
            return logits.softmax(dim=1)
        case "labels":
            return logits.sigmoid()
        case "score":
            return logits[:, 0] * target.std + target.mean
