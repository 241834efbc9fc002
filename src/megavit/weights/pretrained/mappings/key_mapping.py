"""Key tables: which tensors of another library's state dict are which of ours, readable and invertible.

A table is a list of rules. The two sides of a rule hold the same numbers in the same order and only cut and name
them differently, so that one rule reads (theirs to ours) and writes (ours to theirs), to the bit.

    Rule([Piece("cls_token", (1, 1, D))], ["prefix_tokens.class_token"])
    Rule([Piece("query.weight", (D, D)), Piece("key.weight", (D, D)), Piece("value.weight", (D, D))], ["to_qkv.weight"])
"""

import math
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.model.vit import MegaVit

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Piece:
    """A tensor of theirs, as one side of a rule sees it.

    Attributes:
        name: in their state dict; None for numbers that they do not store because these are fixed.
        shape: as stored.
        view: another shape of the same numbers, before `order`; () for `shape` itself.
        order: the axes of `view` in the order in which ours has the numbers; () as they are.
        fixed: the numbers where theirs are always the same, in their order, and NaN where they are free. None is 0
            for numbers that theirs do not store, or that ours do not keep; free otherwise.
    """

    name: str | None
    shape: Shape
    view: Shape = ()
    order: tuple[int, ...] = ()
    fixed: Tensor | None = field(default=None, compare=False)

    def numbers(self, tensor: Tensor) -> Tensor:
        """A tensor of theirs as numbers in our order, flat."""
        return self._ordered(tensor).flatten()

    def tensor(self, numbers: Tensor) -> Tensor:
        """The inverse of `numbers`."""
        view = self.view or self.shape
        order = self.order or tuple(range(len(view)))
        turned = numbers.reshape([view[axis] for axis in order])
        back = sorted(range(len(order)), key=order.__getitem__)
        return turned.permute(back).reshape(self.shape).contiguous()

    def constant(self) -> Tensor:
        """What theirs has when ours keeps nothing of it, in their shape."""
        return torch.zeros(self.shape) if self.fixed is None else self.fixed.reshape(self.shape).clone()

    def agrees(self, tensor: Tensor) -> bool:
        """Whether a tensor of theirs has the fixed numbers, which may be rounded to bfloat16."""
        fixed = self.constant() if self.name is None else self.fixed
        if fixed is None:
            return True
        given, wanted = tensor.detach().float().cpu().flatten(), fixed.float().flatten()
        free = wanted.isnan()
        return bool(torch.isclose(given, wanted, rtol=2**-8, atol=0).logical_or(free).all())

    def _ordered(self, tensor: Tensor) -> Tensor:
        tensor = tensor.reshape(self.view) if self.view else tensor
        return tensor.permute(self.order) if self.order else tensor


@dataclass(frozen=True)
class Rule:
    """Some tensors of theirs hold, one after the other, the numbers of some of ours.

    Attributes:
        theirs: their tensors; what is written.
        ours: names of ours.
        instead: what some files have in place of `theirs`; of the two, that is read of which a file has every
            tensor, and where it has those of both, the longer.
    """

    theirs: Sequence[Piece]
    ours: Sequence[str]
    instead: Sequence[Piece] = ()


@lru_cache(maxsize=4)
def our_shapes(config: ViTConfig) -> Shapes:
    """Of every tensor of the model."""
    with torch.device("meta"):
        model = MegaVit.from_config(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def complete(config: ViTConfig, rules: Sequence[Rule], modules: Mapping[str, str]) -> list[Rule]:
    """The whole table: `rules`, and one for each tensor of ours that they leave, by the name of its module.

    Args:
        modules: theirs to ours, with {i} for a layer's number; what is in a module has the same names and shapes.

    Raises:
        KeyError: when a tensor of ours is in neither; a fault of the table.
    """
    shapes = our_shapes(config)
    done = {name for rule in rules for name in rule.ours}
    theirs = {ours: name for name, ours in modules.items()}
    renamed = []
    for name, shape in shapes.items():
        if name in done:
            continue
        module, _, last = name.rpartition(".")
        number = "".join(re.findall(r"(?<=^transformer\.layers\.)\d+", module))
        template = re.sub(r"(?<=^transformer\.layers\.)\d+", "{i}", module)
        if template not in theirs and name in theirs:
            renamed.append(Rule([Piece(theirs[name], shape)], [name]))
            continue
        renamed.append(Rule([Piece(f"{theirs[template].replace('{i}', number)}.{last}", shape)], [name]))
    return [*rules, *renamed]


def their_shapes(rules: Sequence[Rule]) -> dict[str, Shape]:
    """Of every tensor that a file of theirs must have."""
    return {piece.name: piece.shape for rule in rules for piece in rule.theirs if piece.name is not None}


def as_found(rules: Sequence[Rule], names: Container[str]) -> list[Rule]:
    """The rules for a file that has the tensors `names`: those that have an `instead` decided."""

    def pieces(rule: Rule) -> Sequence[Piece]:
        there = [side for side in (rule.theirs, rule.instead) if all(not p.name or p.name in names for p in side)]
        return max(there, key=len, default=rule.theirs)

    return [Rule(pieces(rule), rule.ours) if rule.instead else rule for rule in rules]


def check_shapes(rules: Sequence[Rule], shapes: Shapes, where: str) -> None:
    """That a checkpoint of theirs, of these `shapes`, is the one that the table is for; `where` it is, for the message.

    Raises:
        BundleError: one error that lists every missing, extra and misshapen tensor.
    """
    expected = their_shapes(as_found(rules, shapes))
    faults = [f"  {name}: is missing" for name in expected if name not in shapes]
    faults += [f"  {name}: is not of this model" for name in shapes if name not in expected]
    faults += [
        f"  {name}: has shape {tuple(shapes[name])}, expected {shape}"
        for name, shape in expected.items()
        if name in shapes and tuple(shapes[name]) != shape
    ]
    if faults:
        cause = likely_cause(expected, shapes)
        raise BundleError("\n".join([f"the weights in {where} do not fit the model{cause}:", *faults]))


def likely_cause(expected: Shapes, found: Shapes) -> str:
    """What most probably is wrong with a checkpoint that does not fit, for the end of a sentence; "" if unknown."""
    missing, extra = set(expected) - set(found), set(found) - set(expected)
    other = {name for name in set(expected) & set(found) if expected[name] != tuple(found[name])}
    if len(missing) > len(expected) / 2:
        return ", probably because it is of another kind of model"
    if missing and not extra and not other and not any(re.search(r"\d", name) for name in missing):
        return ", probably because the model has no such part, which megavit's always has"
    if missing and not extra and not other:
        return ", probably because only a part of it was saved or copied"
    if extra and not missing and not other:
        return ", probably because the model has parts that a plain Vision Transformer has not"
    if other and not missing and not extra and all(len(expected[name]) == len(found[name]) for name in other):
        positions = [name for name in other if "pos" in name]
        if len(positions) == len(other):
            return ", probably because it is for images of another size: say which with --image-size"
        return ", probably because its layers are of different sizes, or its settings are another model's"
    return ""


def to_ours(rules: Sequence[Rule], tensors: Mapping[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Our state dict from theirs, whose tensors must be those of `check_shapes`.

    Raises:
        BundleError: for numbers that our model has otherwise, and cannot change.
    """
    shapes = our_shapes(config)
    state: dict[str, Tensor] = {}
    for rule in as_found(rules, tensors):
        for piece in rule.theirs:
            if piece.name is not None and not piece.agrees(tensors[piece.name]):
                raise BundleError(f"{piece.name} has other numbers than this model computes with; it cannot be read")
        if not rule.ours:
            continue
        like = next((tensors[piece.name] for piece in rule.theirs if piece.name), torch.zeros(()))
        numbers = torch.cat(
            [
                piece.numbers(piece.constant().to(like) if piece.name is None else tensors[piece.name])
                for piece in rule.theirs
            ]
        )
        parts = numbers.split([math.prod(shapes[name]) for name in rule.ours])
        state |= {name: part.reshape(shapes[name]).clone() for name, part in zip(rule.ours, parts, strict=True)}
    return state


def to_theirs(rules: Sequence[Rule], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their state dict from ours.

    Raises:
        BundleError: for numbers that they cannot store: they have others in that place, or one tensor for several
            of ours that differ.
    """
    tensors: dict[str, Tensor] = {}
    for rule in rules:
        if not rule.ours:
            tensors |= {piece.name: piece.constant() for piece in rule.theirs if piece.name}
            continue
        numbers = torch.cat([state[name].flatten() for name in rule.ours])
        for piece, part in zip(rule.theirs, numbers.split([math.prod(p.shape) for p in rule.theirs]), strict=True):
            tensor = piece.tensor(part)
            if not piece.agrees(tensor):
                raise BundleError(
                    f"{' and '.join(rule.ours)} cannot be written in that format, which has fixed numbers in its place"
                )
            if piece.name is None:
                continue
            if piece.name in tensors and not torch.equal(tensors[piece.name], tensor):
                raise BundleError(
                    f"{' and '.join(rule.ours)} cannot be written in that format, which has one {piece.name} for all "
                    "of them, because they differ by now"
                )
            tensors[piece.name] = tensor
    return tensors
