"""timm's architectures and those of their arguments that no tensor determines.

Lines of timm_architectures.txt are "class argument=value ...", each followed by indented "depth/heads name ..." lines.
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """An architecture of timm.

    Attributes:
        model: class name in timm.
        arguments: depth, num_heads, the norm layer as `norm` and `norm_eps`, and others if not the class's defaults.
    """

    model: str
    arguments: dict[str, Any]


def parse_architectures(table: str) -> dict[str, Architecture]:
    """Return the architectures in a table by name."""
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
