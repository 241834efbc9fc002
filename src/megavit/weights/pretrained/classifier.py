"""The classifier of a model: found where a wrapper put another one, and scaled to hold calibration and units."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.config.target import Target
from megavit.errors import BundleError
from megavit.weights.pretrained.candidates import Candidate

WEIGHT, BIAS = "mlp_head.weight", "mlp_head.bias"
# A smoothing changes no probability by more than about itself, so that one below this is none.
NEGLIGIBLE_SMOOTHING = 5e-5
# What people call the classifier of a wrapper around a tower.
NAMES = {
    *("head", "heads", "fc", "classifier", "linear", "cls_head", "classification_head", "linear_head", "mlp_head"),
    "last_linear",
}


def fold_calibration(tensors: dict[str, Tensor], target: Target, calibration: Calibration) -> dict[str, Tensor]:
    """Return `tensors` with a head whose plain softmax, sigmoid or output is the bundle's answer.

    The temperature divides weight and bias; a score's std multiplies them, and its mean is added to the bias.

    Args:
        tensors: by the names of our `state_dict`, with a head.

    Raises:
        BundleError: for probabilities with label smoothing taken off, which no linear head gives.
    """
    if target.kind == "regression":
        return scale_head(tensors, target.std, target.mean)
    if target.kind == "classification" and calibration.smoothing > NEGLIGIBLE_SMOOTHING:
        raise BundleError(
            f"its calibrated probabilities have a smoothing of {calibration.smoothing:.2g} taken off, which no linear "
            "head can, so that other libraries would predict differently: convert what megavit calibrate BUNDLE DATA "
            "--out NEW --temperature-only writes, or write the uncalibrated probabilities with --drop-calibration"
        )
    return scale_head(tensors, 1 / calibration.temperature, 0.0)


def unfold_target(tensors: dict[str, Tensor], target: Target) -> dict[str, Tensor]:
    """Return `tensors` with the head that a score's `mean` and `std` are put on, the reverse of `fold_calibration`."""
    if target.kind != "regression":
        return tensors
    return scale_head(tensors, 1 / target.std, -target.mean / target.std)


def scale_head(tensors: dict[str, Tensor], factor: float, shift: float) -> dict[str, Tensor]:
    """Return `tensors` with a head that answers `factor` times as much, and `shift` more; computed in float64."""
    if (factor, shift) == (1.0, 0.0):
        return tensors
    weight, bias = tensors[WEIGHT], tensors[BIAS]
    return tensors | {
        WEIGHT: (weight.double() * factor).to(weight.dtype),
        BIAS: (bias.double() * factor + shift).to(bias.dtype),
    }


def rename_replaced_head(
    tensors: Mapping[str, Tensor], head: str, where: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a model with its classifier as the library names it, and the names that it had instead.

    Args:
        tensors: of a model, by the names of its format.
        head: of the library's own classifier, a linear layer, such as "heads.head".
        where: the file, for the message.

    Raises:
        BundleError: when what stands in its place is more than one linear layer.
    """
    root = head.partition(".")[0]
    replaced = {name: tensor for name, tensor in tensors.items() if re.match(rf"{root}\.", name)}
    found = _linear(replaced)
    if found is None and not replaced.keys() <= {f"{head}.weight", f"{head}.bias"}:
        raise BundleError(
            f"{where} has a classifier of several layers ({', '.join(sorted(replaced))}); megavit's model has one "
            "linear layer there. Save the model without it, and train a new one: megavit train DATA --init FILE"
        )
    if found is None or found == head:
        return dict(tensors), ()
    rest = {name: tensor for name, tensor in tensors.items() if name not in replaced}
    return rest | _named(head, found, replaced), (found,)


def add_wrapper_head(
    tensors: Mapping[str, Tensor], candidate: Candidate, head: str, width: int
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a tower with the classifier that its wrapper has next to it, and the name of that.

    Args:
        tensors: of a tower without a classifier, by the names of its format.
        candidate: the tower; its wrapper is one of those whose names its prefix begins with.
        head: how the library names a classifier of its own.
        width: of the tower's output.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in candidate.beside.items():
        for mark in re.finditer(r"(?:^|(?<=\.))[^.]+(?=\.)", name):
            if mark[0] in NAMES and candidate.prefix.startswith(name[: mark.start()]) and tensor.ndim:
                groups.setdefault(name[: mark.end()], {})[name] = tensor
                break
    linear = {found: group for group in groups.values() if (found := _linear(group)) is not None}
    fitting = [found for found, group in linear.items() if group[f"{found}.weight"].shape[1] == width]
    if len(fitting) != 1:
        return dict(tensors), ()
    return dict(tensors) | _named(head, fitting[0], linear[fitting[0]]), (fitting[0],)


def _linear(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the module, where `tensors` are those of one linear layer and of nothing else."""
    matrices = [name for name, tensor in tensors.items() if name.endswith(".weight") and tensor.ndim == 2]
    if len(matrices) != 1:
        return None
    name = matrices[0].removesuffix(".weight")
    return name if set(tensors) <= {f"{name}.weight", f"{name}.bias"} else None


def _named(head: str, found: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weight = tensors[f"{found}.weight"]
    bias = tensors.get(f"{found}.bias", torch.zeros(len(weight)))
    return {f"{head}.weight": weight, f"{head}.bias": bias}
