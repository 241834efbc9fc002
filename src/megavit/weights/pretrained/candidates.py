"""Find the models in a checkpoint by trying every table and every prefix of tensor names in it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from megavit.weights.pretrained.formats import detect_format
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat

# Inserted by torch.compile, FSDP, activation checkpointing and PyTorch Lightning.
INFIXES = r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
# Words in the path or prefix of averaged weights, which are preferred, and of weights that come last.
AVERAGED = {"ema", "teacher", "averaged", "shadow", "target", "swa"}
LAST = {"student", "momentum", "predictor", "optimizer", "encoder_k"}
# Decoder of masked autoencoders, only used in pre-training.
DECODER = r"(decoder_\w+|decoder|decoder_blocks)(\.|$)"


@dataclass(frozen=True)
class Candidate:
    """A model found in a checkpoint.

    Attributes:
        format: format of the tensors' names.
        path: path of their table in the file; "" for the file itself.
        prefix: prefix of their names in the table.
        tensors: tensors of the model by name without prefix.
        others: other tensors of the table by their original names.
    """

    format: CheckpointFormat
    path: str
    prefix: str
    tensors: dict[str, Tensor]
    others: dict[str, Tensor]

    @property
    def name(self) -> str:
        """The path and prefix joined by a slash, by which a user selects the candidate."""
        return "/".join(part for part in (self.path, self.prefix.rstrip("./")) if part)


def find_candidates(tables: Mapping[str, Mapping[str, Tensor]]) -> list[Candidate]:
    """Return all models in the tables of a file, the best first: averaged weights, then those with most tensors."""
    found = [candidate for path, table in tables.items() for candidate in _find_in_table(path, table)]
    return sorted(found, key=lambda candidate: (_rank(candidate.name), -len(candidate.tensors)))


def _find_in_table(path: str, table: Mapping[str, Tensor]) -> list[Candidate]:
    clean = {re.sub(INFIXES, "", name): name for name in table}
    if len(clean) < len(table):
        clean = {name: name for name in table}
    found: list[Candidate] = []
    for prefix in _prefixes(clean):
        if any(prefix.startswith(candidate.prefix) for candidate in found):
            continue  # part of a candidate that was found before
        names = [name for name in clean if name.startswith(prefix)]
        encoder = _without_decoder(name.removeprefix(prefix) for name in names)
        checkpoint_format = detect_format(encoder)
        if checkpoint_format is not None:
            originals = {name: clean[prefix + name] for name in encoder}
            tensors = {name: table[original] for name, original in originals.items()}
            others = {name: tensor for name, tensor in table.items() if name not in set(originals.values())}
            found.append(Candidate(checkpoint_format, path, prefix, tensors, others))
    return found


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return "" and every prefix of `names` that ends in a dot or slash, the shortest first."""
    found = {""} | {name[: match.end()] for name in names for match in re.finditer(r"[./]", name)}
    return sorted(found, key=lambda prefix: (len(re.findall(r"[./]", prefix)), len(prefix)))


def _without_decoder(names: Iterable[str]) -> list[str]:
    names = list(names)
    if not any(re.match(DECODER, name) for name in names):
        return names
    return [name for name in names if not re.match(DECODER, name) and name != "mask_token"]


def _rank(name: str) -> int:
    words = {word for part in re.split(r"[./]", name) for word in (part, *part.split("_"))}
    return 0 if words & AVERAGED else 2 if words & LAST else 1
