"""What a bundle does with its logits, as numbers of the head, so that the logits alone say it."""

from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.config.target import Target
from megavit.errors import BundleError

WEIGHT, BIAS = "mlp_head.weight", "mlp_head.bias"
# A smoothing changes no probability by more than about itself, so that one below this is none.
NEGLIGIBLE = 5e-5


def folded_head(tensors: dict[str, Tensor], target: Target, calibration: Calibration) -> dict[str, Tensor]:
    """Return `tensors` with a head whose plain softmax, sigmoid or output is the bundle's answer.

    The temperature divides weight and bias; a score's std multiplies them, and its mean is added to the bias.

    Args:
        tensors: by the names of our `state_dict`, with a head.

    Raises:
        BundleError: for probabilities with label smoothing taken off, which no linear head gives.
    """
    if target.kind == "regression":
        return scaled_head(tensors, target.std, target.mean)
    if target.kind == "classification" and calibration.smoothing > NEGLIGIBLE:
        raise BundleError(
            f"its calibrated probabilities have a smoothing of {calibration.smoothing:.2g} taken off, which no linear "
            "head can, so that other libraries would predict otherwise: convert what megavit calibrate BUNDLE DATA "
            "--out NEW --temperature-only writes, or write what the model says by itself with --drop-calibration"
        )
    return scaled_head(tensors, 1 / calibration.temperature, 0.0)


def unfolded_head(tensors: dict[str, Tensor], target: Target) -> dict[str, Tensor]:
    """Return `tensors` with the head that a score's `mean` and `std` are put on, the reverse of `folded_head`."""
    if target.kind != "regression":
        return tensors
    return scaled_head(tensors, 1 / target.std, -target.mean / target.std)


def scaled_head(tensors: dict[str, Tensor], factor: float, shift: float) -> dict[str, Tensor]:
    """Return `tensors` with a head that answers `factor` times as much, and `shift` more; computed in float64."""
    if (factor, shift) == (1.0, 0.0):
        return tensors
    weight, bias = tensors[WEIGHT], tensors[BIAS]
    return tensors | {
        WEIGHT: (weight.double() * factor).to(weight.dtype),
        BIAS: (bias.double() * factor + shift).to(bias.dtype),
    }
