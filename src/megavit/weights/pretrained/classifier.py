"""Classifier heads: find a head that a wrapper replaced, and fold calibration into its weights."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.config.target import Target
from megavit.errors import BundleError

WEIGHT, BIAS = "mlp_head.weight", "mlp_head.bias"
# Smoothing changes probabilities by at most about its own value.
NEGLIGIBLE_SMOOTHING = 5e-5
# Common names of a classifier in a wrapper around a backbone.
NAMES = {
    *("head", "heads", "fc", "classifier", "linear", "cls_head", "classification_head", "linear_head", "mlp_head"),
    "last_linear",
}


def fold_calibration(tensors: dict[str, Tensor], target: Target, calibration: Calibration) -> dict[str, Tensor]:
    """Return `tensors` with the calibration's temperature, or a regression target's mean and std, folded into the head.

    Raises:
        BundleError: if the calibration removes label smoothing, which no linear head can do.
    """
    if target.kind == "regression":
        return scale_head(tensors, target.std, target.mean)
    if target.kind == "classification" and calibration.smoothing > NEGLIGIBLE_SMOOTHING:
        raise BundleError(
            f"the calibration removes a label smoothing of {calibration.smoothing:.2g}, which a linear head cannot do, "
            "so other libraries would predict differently: convert the output of megavit calibrate BUNDLE DATA --out "
            "NEW --temperature-only, or write the uncalibrated probabilities with --drop-calibration"
        )
    return scale_head(tensors, 1 / calibration.temperature, 0.0)


def unfold_target(tensors: dict[str, Tensor], target: Target) -> dict[str, Tensor]:
    """Return `tensors` without a regression target's scale in the head: the inverse of `fold_calibration`."""
    if target.kind != "regression":
        return tensors
    return scale_head(tensors, 1 / target.std, -target.mean / target.std)


def scale_head(tensors: dict[str, Tensor], factor: float, shift: float) -> dict[str, Tensor]:
    """Return `tensors` with a head whose outputs are multiplied by `factor` and shifted by `shift`, in float64."""
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
    """Return tensors with a replaced head renamed to `head`, and its old name; raise a BundleError if not linear."""
    root = head.partition(".")[0]
    replaced = {name: tensor for name, tensor in tensors.items() if re.match(rf"{root}\.", name)}
    found = _linear(replaced)
    if found is None and not replaced.keys() <= {f"{head}.weight", f"{head}.bias"}:
        raise BundleError(
            f"{where} has a classifier of several layers ({', '.join(sorted(replaced))}), but megavit's is one "
            "linear layer: save the model without it, and train a new one with megavit train DATA --from FILE"
        )
    if found is None or found == head:
        return dict(tensors), ()
    rest = {name: tensor for name, tensor in tensors.items() if name not in replaced}
    return rest | _named(head, found, replaced), (found,)


def add_wrapper_head(
    tensors: Mapping[str, Tensor], prefix: str, others: Mapping[str, Tensor], head: str, width: int
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return a backbone's tensors with the classifier of its wrapper, renamed to `head`, and its original name.

    Only a single linear layer with inputs of `width` channels is taken; else the tensors are unchanged. `prefix` is
    that of the backbone's names, and `others` are the tensors outside of it by their original names.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in others.items():
        for match in re.finditer(r"(?:^|(?<=\.))[^.]+(?=\.)", name):
            if match[0] in NAMES and prefix.startswith(name[: match.start()]) and tensor.ndim:
                groups.setdefault(name[: match.end()], {})[name] = tensor
                break
    linear = {found: group for group in groups.values() if (found := _linear(group)) is not None}
    fitting = [found for found, group in linear.items() if group[f"{found}.weight"].shape[1] == width]
    if len(fitting) != 1:
        return dict(tensors), ()
    return dict(tensors) | _named(head, fitting[0], linear[fitting[0]]), (fitting[0],)


def _linear(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the linear layer if `tensors` are its weight and bias alone, else None."""
    matrices = [name for name, tensor in tensors.items() if name.endswith(".weight") and tensor.ndim == 2]
    if len(matrices) != 1:
        return None
    name = matrices[0].removesuffix(".weight")
    return name if set(tensors) <= {f"{name}.weight", f"{name}.bias"} else None


def _named(head: str, found: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weight = tensors[f"{found}.weight"]
    bias = tensors.get(f"{found}.bias", torch.zeros(len(weight)))
    return {f"{head}.weight": weight, f"{head}.bias": bias}
