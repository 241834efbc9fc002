"""Key tables: invertible mappings between another library's state dict and MegaVit's.

A table is a tuple of rules. Both sides of a rule hold the same numbers, but split, ordered and named differently, so
that one rule reads (theirs to ours) and writes (ours to theirs) exactly.

    rule("cls_token: 1 1 D", "prefix_tokens.class_token")
    rule(["query.weight: I D", "key.weight: I D", "value.weight: I D"], "attention.to_qkv.weight")
    rule("kernel: P Q C D -> D C P Q", "patch_embedding.projection.weight")

A slice is "name: shape" or "name: their axes -> our order", with parentheses around axes that are stored as one. The
name 0 stands for zeros that they do not store, and 1 for an identity matrix. {i} is a layer's index, and * the
remaining size. Names of ours that a model lacks are ignored; the first rule for a tensor applies.

Shape letters: B batch; C image channels; D dim; M mlp_dim; H heads; K dim_head; I = H K; L classes; N patches; P, Q a
patch's height and width; R registers; S = R - 1.
"""

import math
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.model.statistics import Shape, Shapes, parameter_shapes

Condition = Callable[[ViTConfig], bool]
Sizes = Mapping[str, int]


@dataclass(frozen=True)
class KeyRule:
    """A rule of a key table, which maps tensors of theirs to tensors of ours; see `rule` for its fields."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    instead: tuple[str, ...] = ()
    when: Condition | None = None
    fixed: Callable[[ViTConfig], Tensor] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class TensorSlice:
    """A tensor of theirs in one side of a rule, for one config.

    Attributes:
        name: name in their state dict; None for fixed numbers that they do not store.
        shape: shape as stored.
        axes: shape of the same numbers before `order`.
        order: permutation of `axes` that gives our order.
        fixed: required numbers in their order, with NaN for free ones; None for zeros if theirs or ours do not store
            the numbers, else for free numbers.
    """

    name: str | None
    shape: Shape
    axes: Shape
    order: tuple[int, ...]
    fixed: Tensor | None = field(default=None, compare=False)

    def numbers(self, tensor: Tensor) -> Tensor:
        """Return the numbers of a tensor of theirs, flat and in our order."""
        return tensor.reshape(self.axes).permute(self.order).flatten()

    def tensor(self, numbers: Tensor) -> Tensor:
        """Return the tensor of theirs with these numbers: the inverse of `numbers`."""
        ordered = numbers.reshape([self.axes[axis] for axis in self.order])
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return ordered.permute(inverse).reshape(self.shape).contiguous()

    def constant(self) -> Tensor:
        """Return the tensor of theirs, in their shape, for numbers that ours do not store."""
        return torch.zeros(self.shape) if self.fixed is None else self.fixed.reshape(self.shape).clone()

    def agrees(self, tensor: Tensor) -> bool:
        """Return whether a tensor of theirs has the fixed numbers, up to rounding to bfloat16."""
        fixed = self.constant() if self.name is None else self.fixed
        if fixed is None:
            return True
        numbers, expected = tensor.detach().float().cpu().flatten(), fixed.float().flatten()
        return bool(torch.isclose(numbers, expected, rtol=2**-8, atol=0).logical_or(expected.isnan()).all())


@dataclass(frozen=True)
class ResolvedRule:
    """A rule for one config and layer, with the sizes of its slices."""

    theirs: Sequence[TensorSlice]
    ours: Sequence[str]
    instead: Sequence[TensorSlice] = ()


def rule(
    theirs: str | Sequence[str],
    ours: str | Sequence[str] = (),
    *,
    instead: str | Sequence[str] = (),
    when: Condition | None = None,
    fixed: Callable[[ViTConfig], Tensor] | None = None,
) -> KeyRule:
    """Return a rule of a key table.

    Args:
        theirs: slices of theirs, which are written.
        ours: names of ours; none for tensors that ours lacks, which are written as zeros or as `fixed`.
        instead: alternative slices of theirs; if a file has all tensors of both, the longer side is read.
        when: condition on the config; None for all models.
        fixed: function that returns the fixed numbers of theirs; see `TensorSlice`.
    """
    lists = [(value,) if isinstance(value, str) else tuple(value) for value in (theirs, ours, instead)]
    return KeyRule(*lists, when=when, fixed=fixed)


def renames(modules: Mapping[str, str], when: Condition | None = None) -> tuple[KeyRule, ...]:
    """Return rules for modules (theirs to ours) whose parameters have the same names and shapes in both."""
    return tuple(rule(f"{theirs}.*", f"{ours}.*", when=when) for theirs, ours in modules.items())


def resolve_rules(rules: Sequence[KeyRule], config: ViTConfig) -> list[ResolvedRule]:
    """Return the rules for a config, which cover each tensor once; raise a KeyError if one has no rule."""
    shapes, sizes = parameter_shapes(config), _sizes(config)
    resolved: list[ResolvedRule] = []
    done: set[str] = set()
    modules: dict[str, str] = {}
    for each in rules:
        if each.when is not None and not each.when(config):
            continue
        if each.ours and each.ours[0].endswith(".*"):
            modules.setdefault(each.ours[0].removesuffix(".*"), each.theirs[0].removesuffix(".*"))
            continue
        fixed = None if each.fixed is None else each.fixed(config)
        layers = config.depth if any("{i}" in name for name in (*each.theirs, *each.ours)) else 1
        for i in range(layers):
            names = [name.replace("{i}", str(i)) for name in each.ours]
            ours = [name for name in names if name in shapes and name not in done]
            if names and not ours:
                continue
            total = sum(math.prod(shapes[name]) for name in ours)
            theirs, instead = (
                [_slice(text.replace("{i}", str(i)), sizes, total, fixed) for text in side]
                for side in (each.theirs, each.instead)
            )
            if ours:  # drop empty slices
                theirs, instead = ([part for part in side if math.prod(part.shape)] for side in (theirs, instead))
            resolved.append(ResolvedRule(theirs, ours, instead))
            done.update(ours)
    for name, shape in shapes.items():
        if name not in done:
            module, _, last = name.rpartition(".")
            number = "".join(re.findall(r"(?<=^transformer\.layers\.)\d+", module))
            theirs = modules[re.sub(r"(?<=^transformer\.layers\.)\d+", "{i}", module)].replace("{i}", number)
            part = TensorSlice(f"{theirs}.{last}", shape, shape, tuple(range(len(shape))))
            resolved.append(ResolvedRule([part], [name]))
    return resolved


def _sizes(config: ViTConfig) -> Sizes:
    (height, width), registers = config.patch_hw, config.design.registers
    inner = config.heads * config.dim_head
    return {
        "C": config.channels, "D": config.dim, "H": config.heads, "I": inner, "K": config.dim_head,
        "L": config.num_classes, "M": config.mlp_dim, "N": config.num_patches, "P": height,
        "Q": width, "R": registers, "S": max(0, registers - 1),
    }  # fmt: skip


def _slice(text: str, sizes: Sizes, total: int, fixed: Tensor | None) -> TensorSlice:
    """Return the slice that `text` describes; `total` is the number of elements of ours, for the size `*`."""
    name, _, shape = text.partition(": ")
    theirs, _, ours = shape.partition(" -> ")
    groups = [group.strip("()").split() for group in re.findall(r"\([^)]*\)|\S+", theirs)]
    letters = [letter for group in groups for letter in group]
    known = math.prod(_size(letter, sizes) for letter in letters if letter != "*")
    size_of = {letter: total // known if letter == "*" else _size(letter, sizes) for letter in letters}
    order = tuple(letters.index(letter) for letter in ours.split()) if ours else tuple(range(len(letters)))
    stored = tuple(math.prod(size_of[letter] for letter in group) for group in groups)
    if name == "1":
        fixed = torch.eye(stored[0])
    axes = tuple(size_of[letter] for letter in letters)
    return TensorSlice(None if name in ("0", "1") else name, stored, axes, order, fixed)


def _size(expression: str, sizes: Sizes) -> int:
    """Return the value of a sum of multiples and fractions of letters, such as "M+3I" or "K/2"."""
    total = 0
    for factor, letter, divisor in re.findall(r"(\d*)([A-Z]?)(?:/(\d+))?(?:\+|$)", expression):
        total += 0 if not factor and not letter else int(factor or 1) * sizes.get(letter, 1) // int(divisor or 1)
    return total


def their_shapes(rules: Sequence[ResolvedRule]) -> dict[str, Shape]:
    """Return the shape of every tensor that a file of theirs must have."""
    return {part.name: part.shape for each in rules for part in each.theirs if part.name is not None}


def rules_for_file(rules: Sequence[ResolvedRule], names: Container[str]) -> list[ResolvedRule]:
    """Return the rules with each `instead` resolved for a file with the tensors `names`."""

    def present(each: ResolvedRule) -> Sequence[TensorSlice]:
        sides = [side for side in (each.theirs, each.instead) if all(not p.name or p.name in names for p in side)]
        return max(sides, key=len, default=each.theirs)

    return [ResolvedRule(present(each), each.ours) if each.instead else each for each in rules]


def check_shapes(rules: Sequence[ResolvedRule], shapes: Shapes, where: str) -> None:
    """Raise a BundleError that lists all missing, unexpected and misshapen tensors of the checkpoint `where`."""
    expected = their_shapes(rules_for_file(rules, shapes))
    faults = [f"  {name}: is missing" for name in expected if name not in shapes]
    faults += [f"  {name}: is not part of this model" for name in shapes if name not in expected]
    faults += [
        f"  {name}: has shape {tuple(shapes[name])}, expected {shape}"
        for name, shape in expected.items()
        if name in shapes and tuple(shapes[name]) != shape
    ]
    if faults:
        cause = likely_cause(expected, shapes)
        raise BundleError("\n".join([f"the weights in {where} do not fit the model{cause}:", *faults]))


def likely_cause(expected: Shapes, found: Shapes) -> str:
    """Return the most probable cause of a mismatch, as the end of a sentence; "" if unknown."""
    missing, extra = set(expected) - set(found), set(found) - set(expected)
    misshapen = {name for name in set(expected) & set(found) if expected[name] != tuple(found[name])}
    if len(missing) > len(expected) / 2:
        return ", probably because it is from another kind of model"
    if missing and not extra and not misshapen and not any(re.search(r"\d", name) for name in missing):
        return ", probably because the model lacks a part that megavit's always has"
    if missing and not extra and not misshapen:
        return ", probably because only a part of it was saved or copied"
    if extra and not missing and not misshapen:
        return ", probably because the model has parts that a plain Vision Transformer does not have"
    if misshapen and not missing and not extra and all(len(expected[name]) == len(found[name]) for name in misshapen):
        if all("pos" in name for name in misshapen):
            return ", probably because it is for images of another size: set it with --image-size"
        return ", probably because its layers have different sizes, or its settings are from another model"
    return ""


def to_ours(rules: Sequence[ResolvedRule], tensors: Mapping[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Return our state dict from theirs; raise a BundleError if fixed numbers differ."""
    shapes = parameter_shapes(config)
    state: dict[str, Tensor] = {}
    for each in rules_for_file(rules, tensors):
        for part in each.theirs:
            if part.name is not None and not part.agrees(tensors[part.name]):
                raise BundleError(
                    f"{part.name} has other values than megavit's model uses, so the checkpoint cannot be loaded"
                )
        if not each.ours:
            continue
        like = next((tensors[part.name] for part in each.theirs if part.name), torch.zeros(()))
        numbers = torch.cat(
            [part.numbers(tensors[part.name] if part.name else part.constant().to(like)) for part in each.theirs]
        )
        split = numbers.split([math.prod(shapes[name]) for name in each.ours])
        state |= {name: part.reshape(shapes[name]).clone() for name, part in zip(each.ours, split, strict=True)}
    return state


def to_theirs(rules: Sequence[ResolvedRule], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return their state dict from ours; raise a BundleError for numbers that their format cannot hold."""
    tensors: dict[str, Tensor] = {}
    for each in rules:
        if not each.ours:
            tensors |= {part.name: part.constant() for part in each.theirs if part.name}
            continue
        ours = " and ".join(each.ours)
        numbers = torch.cat([state[name].flatten() for name in each.ours])
        for part, own in zip(each.theirs, numbers.split([math.prod(p.shape) for p in each.theirs]), strict=True):
            tensor = part.tensor(own)
            if not part.agrees(tensor):
                raise BundleError(f"{ours} cannot be written in that format, which has fixed values in its place")
            if part.name is None:
                continue
            if part.name in tensors and not torch.equal(tensors[part.name], tensor):
                raise BundleError(
                    f"{ours} cannot be written in that format, which shares one {part.name} among several tensors, "
                    "because these differ"
                )
            tensors[part.name] = tensor
    return tensors
