"""Models in a checkpoint: in which of its tables, and under which prefix of tensors' names.

Wrappers are not known by their names: every table of tensors in the file and every prefix in it is tried, and those
are taken from which a model of a known format can be read.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from megavit.weights.pretrained.formats import detect_format
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat

# What wrappers put inside of names too: torch.compile, FSDP, activation checkpointing, PyTorch Lightning's strategies.
INFIXES = r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
# Words in the place or prefix of averaged weights, which go first, as a run ships them; and of those that go last.
AVERAGED = {"ema", "teacher", "averaged", "shadow", "target", "swa"}
LAST = {"student", "momentum", "predictor", "optimizer", "encoder_k"}
# The part of masked autoencoders that is for pre-training alone.
DECODER = r"(decoder_\w+|decoder|decoder_blocks)(\.|$)"


@dataclass(frozen=True)
class Candidate:
    """Tensors of a checkpoint from which a model can be read.

    Attributes:
        format: of the names.
        place: of their table in the file; "" for the file itself.
        prefix: of their names in it.
        tensors: by name without prefix.
        beside: the other tensors of their table, by the names that they have there.
    """

    format: CheckpointFormat
    place: str
    prefix: str
    tensors: dict[str, Tensor]
    beside: dict[str, Tensor]

    @property
    def name(self) -> str:
        """The place and the prefix, as far as there are such: how a user names it."""
        return "/".join(part for part in (self.place, self.prefix.rstrip("./")) if part)


def find_candidates(tables: Mapping[str, Mapping[str, Tensor]]) -> list[Candidate]:
    """Return all that can be read in a file, the best first: averaged weights, then the most tensors, then the order.

    Args:
        tables: of tensors by name, by their place in the file.
    """
    found = [one for place, table in tables.items() for one in _in_table(place, table)]
    return sorted(found, key=lambda one: (_rank(one.name), -len(one.tensors)))


def _in_table(place: str, table: Mapping[str, Tensor]) -> list[Candidate]:
    clean = {re.sub(INFIXES, "", name): name for name in table}
    if len(clean) < len(table):
        clean = {name: name for name in table}
    found: list[Candidate] = []
    for prefix in _prefixes(clean):
        if any(prefix.startswith(one.prefix) for one in found):
            continue  # a part of what was found
        names = [name for name in clean if name.startswith(prefix)]
        encoder = _without_decoder(name.removeprefix(prefix) for name in names)
        checkpoint_format = detect_format(encoder)
        if checkpoint_format is not None:
            originals = {name: clean[prefix + name] for name in encoder}
            tensors = {name: table[original] for name, original in originals.items()}
            beside = {name: tensor for name, tensor in table.items() if name not in set(originals.values())}
            found.append(Candidate(checkpoint_format, place, prefix, tensors, beside))
    return found


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return "" and whatever stands before a dot or a slash in one of `names`, the shortest first."""
    found = {""} | {name[: mark.end()] for name in names for mark in re.finditer(r"[./]", name)}
    return sorted(found, key=lambda prefix: (len(re.findall(r"[./]", prefix)), len(prefix)))


def _without_decoder(names: Iterable[str]) -> list[str]:
    names = list(names)
    if not any(re.match(DECODER, name) for name in names):
        return names
    return [name for name in names if not re.match(DECODER, name) and name != "mask_token"]


def _rank(name: str) -> int:
    words = {word for part in re.split(r"[./]", name) for word in (part, *part.split("_"))}
    return 0 if words & AVERAGED else 2 if words & LAST else 1
