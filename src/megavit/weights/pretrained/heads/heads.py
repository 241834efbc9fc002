"""Classifiers that were put in the place of a model's own: another layer, one behind dropout, one beside the tower."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from megavit.errors import BundleError

# What people call the classifier of a wrapper around a tower.
NAMES = {
    *("head", "heads", "fc", "classifier", "linear", "cls_head", "classification_head", "linear_head", "mlp_head"),
    "last_linear",
}


def with_own_head(tensors: Mapping[str, Tensor], head: str, where: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a model with its classifier as the library names it, and where it stood instead.

    Args:
        tensors: of a model, by the names of its layout.
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


def with_head_beside(
    tensors: Mapping[str, Tensor], beside: Mapping[str, Tensor], head: str, width: int, prefix: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a tower with the classifier that stands beside it in its wrapper, and where it stood.

    Args:
        tensors: of a tower without a classifier, by the names of its layout.
        beside: what else is in the table.
        head: how the library names a classifier of its own.
        width: of the tower's answer.
        prefix: of the tower's names in that table; its wrapper is one of those whose names these begin with.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in beside.items():
        for mark in re.finditer(r"(?:^|(?<=\.))[^.]+(?=\.)", name):
            if mark[0] in NAMES and prefix.startswith(name[: mark.start()]) and tensor.ndim:
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
