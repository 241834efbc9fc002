"""Parse the names KEY.KIND and the target files of samples in shards, by WebDataset's conventions."""

import json
import math
from dataclasses import dataclass, field

from megavit.config.names import canonical, is_missing
from megavit.data.file_names import IMAGE_SUFFIXES
from megavit.data.shards.index import Member
from megavit.data.targets import NamedTarget
from megavit.errors import ImageError

TARGETS = ("cls", "json")
# Kinds of files that describe the data set.
_METADATA_KINDS = ("json", "jsonl", "txt", "md", "csv", "tsv", "yaml", "yml", "idx", "")
_MAX_NAME_LENGTH = 200


@dataclass(slots=True)
class SampleFiles:
    """The files of a sample: its readable image, its targets in .cls and .json, and the kinds of all files."""

    image: Member | None = None
    targets: dict[str, NamedTarget | None] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)

    @property
    def target(self) -> NamedTarget | None:
        """The target in .cls, which is specific, or else in .json."""
        found = [self.targets[kind] for kind in TARGETS if self.targets.get(kind) is not None]
        return found[0] if found else None

    @property
    def fault(self) -> str:
        """The reason why the sample has no image, or an empty string."""
        if self.image is not None or self.kinds & set(IMAGE_SUFFIXES):
            return ""
        dotted = next((kind for kind in sorted(self.kinds) if kind.rpartition(".")[2] in IMAGE_SUFFIXES), None)
        if dotted is not None:
            kind = dotted.rpartition(".")[2]
            return f"a sample with .{dotted}, but images must be named KEY.{kind}, with no dot in the key"
        kinds = ", ".join(f".{kind}" for kind in sorted(self.kinds))
        return f"a sample without an image, with only {kinds}"[:_MAX_NAME_LENGTH]

    @property
    def is_metadata(self) -> bool:
        """Whether the files describe the data set and are not a sample."""
        return self.kinds <= {*_METADATA_KINDS}


def split_key(name: str) -> tuple[str, str]:
    folder, slash, file = name.rpartition("/")
    key, _, kind = file.partition(".")
    return folder + slash + key, kind.lower()


def parse_target(kind: str, data: bytes) -> NamedTarget | None:
    """Return the target in a .cls or .json (label, labels or score), or None; raise an ImageError if it is invalid."""
    try:
        if kind == "cls":
            label = data.decode().strip()
            if len(label) > _MAX_NAME_LENGTH:
                raise ValueError
            table = {"label": label}
        else:
            table = json.loads(data)
        score = table.get("score") if isinstance(table, dict) else None
        score = float(score) if isinstance(score, int | float) and not isinstance(score, bool) else None
    except (ValueError, OverflowError, RecursionError) as error:
        raise ImageError(f"not a valid .{kind}") from error
    if not isinstance(table, dict):
        return None
    if isinstance(table.get("labels"), list):
        return tuple(sorted({_label_name(kind, label) for label in table["labels"] if label != ""}))
    if score is not None and math.isfinite(score):
        return score
    label = table.get("label")
    has_label = isinstance(label, int | str) and not isinstance(label, bool) and label != ""
    return _label_name(kind, label) if has_label else None


def _label_name(kind: str, label: object) -> str:
    name = str(label)[:_MAX_NAME_LENGTH]
    if is_missing(name):
        raise ImageError(f"the .{kind} has the label {name!r}, which usually means a missing value")
    return canonical(name)
