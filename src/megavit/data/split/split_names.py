"""Parse the names of splits, alike for folders, tables and shards."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

SPLITS = ("train", "val", "test")

SPLIT_WORDS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev", "devel", "development"),
    "test": ("test", "tests", "testing", "eval", "evaluation", "holdout", "heldout"),
}

_SPLIT_BY_WORD = {word: split for split, words in SPLIT_WORDS.items() for word in words}
# Words that do not distinguish splits.
_FILLERS = (
    "set|data|dataset|split|subset|part|partition|folder|dir|files|samples|examples"
    "|images|image|imgs|img|pictures|pics|photos"
)
_WORD = re.compile(rf"({'|'.join(_SPLIT_BY_WORD)})({_FILLERS})?\d*")
_FILLER = re.compile(rf"({_FILLERS})?\d*")


@dataclass(frozen=True, slots=True)
class SplitName:
    """The splits named in a text, each once, and its other words without fillers such as "set" and numbers."""

    splits: tuple[str, ...]
    rest: tuple[str, ...]


def parse_name(name: str) -> SplitName:
    """Return the splits and the other words in a name, regardless of case and separators."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name)).casefold()
    text = re.sub(r"\b(hold|held)[\W_]?out", "holdout", text.replace("_", " "))
    splits: list[str] = []
    rest: list[str] = []
    for word in re.findall(r"\w+", text):
        if found := _WORD.fullmatch(word):
            splits.append(_SPLIT_BY_WORD[found[1]])
        elif not _FILLER.fullmatch(word):
            rest.append(word)
    return SplitName(tuple(dict.fromkeys(splits)), tuple(rest))


def parse_split(name: str) -> str | None:
    """Return "train", "val" or "test" if the name is that of a split only, such as "Training_Set", else None."""
    found = parse_name(name)
    return found.splits[0] if len(found.splits) == 1 and not found.rest else None


def find_split_folders(names: Sequence[str]) -> dict[str, str]:
    """Return the split of each folder named after one, or of all if only their splits differ (seg_train, seg_test)."""
    named = {name: split for name in names if (split := parse_split(name.rpartition("/")[2])) is not None}
    if named:
        return named
    parsed = {name: parse_name(name.rpartition("/")[2]) for name in names}
    rests = {name_parts.rest for name_parts in parsed.values()}
    if len(rests) == 1 and all(len(name_parts.splits) == 1 for name_parts in parsed.values()):
        splits = {name: name_parts.splits[0] for name, name_parts in parsed.items()}
        if len(set(splits.values())) > 1:
            return splits
    return {}
