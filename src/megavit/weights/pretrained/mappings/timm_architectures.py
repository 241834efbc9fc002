"""timm's architectures: the arguments that their functions give and no tensor determines, by name.

timm_architectures.txt has lines of "class argument=value ...", each followed by lines of "depth/heads name ...". A
test compares every row with the installed timm.
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """One architecture of timm's.

    Attributes:
        model: its class in timm.
        arguments: of that class, where these are not its defaults; depth and num_heads always. Its norm layer is two
            of them: `norm` as our designs have it, and `norm_eps`.
    """

    model: str
    arguments: dict[str, Any]


def parse_architectures(table: str) -> dict[str, Architecture]:
    """Return name -> architecture."""
    architectures: dict[str, Architecture] = {}
    model, common, sizes = "", {}, {}
    for line in table.strip().splitlines():
        words = line.split()
        if not line.startswith(" "):
            model, common = words.pop(0), {}
        for word in words:
            if "=" in word:
                name, value = word.split("=")
                common[name] = json.loads(value)
            elif "/" in word:
                depth, heads = word.split("/")
                sizes = {"depth": int(depth), "num_heads": int(heads)}
            else:
                architectures[word] = Architecture(model, common | sizes)
    return architectures


ARCHITECTURES = parse_architectures(
    files("megavit.weights.pretrained.mappings").joinpath("timm_architectures.txt").read_text(encoding="utf-8")
)
