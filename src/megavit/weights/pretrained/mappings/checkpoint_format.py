"""What is said of each library's checkpoints: how its tensors are called, and how its model's sizes are found."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.model.statistics import Shapes
from megavit.weights.pretrained.mappings.config_from_shapes import (
    CheckpointFacts,
    Fields,
    Overrides,
    make_config,
    undetermined_fields,
)
from megavit.weights.pretrained.mappings.key_mapping import KeyRule, ResolvedRule, resolve_rules

Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class CheckpointFormat:
    """How one library names the tensors of a Vision Transformer, and what its settings say.

    Attributes:
        name: for messages.
        signature: names of tensors that together only this format has.
        rules: the key table; see `key_mapping`.
        fields: the fields of the config that the shapes of a checkpoint's tensors determine.
        unsupported: name of a tensor -> why a checkpoint that has it cannot be read.
        towers: prefixes of which the first that any name has tells the model's tensors from others.
        prefixes: of tensors' names in larger models, each taken off.
        renamed: regular expressions in names without prefix, and what the table has instead.
        left_out: regular expressions of what is no part of the model, matched where such a name begins.
        left_out_beside: likewise, in checkpoints that have a tensor of this name.
        normalize: tensors by the names of the table, from a version that shaped them differently.
        settings: facts in the library's own settings, that go before the `fields`.
        model_types: what each model_type of transformers' config.json that this format is for has by default.
        undetermined: of a config, what no tensor determines: name -> value.
        head: the module of the classifier; "" where there is none, or none that can be replaced.
    """

    name: str
    signature: Sequence[str]
    rules: Sequence[KeyRule]
    fields: Callable[[CheckpointFacts], Fields]
    unsupported: Mapping[str, str] = field(default_factory=dict)
    towers: Sequence[str] = ()
    prefixes: Sequence[str] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    left_out_beside: Mapping[str, str] = field(default_factory=dict)
    normalize: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    settings: Callable[[dict[str, Any]], Overrides] = lambda _: {}
    model_types: Mapping[str, Settings] = field(default_factory=dict)
    undetermined: Callable[[ViTConfig], dict[str, Any]] = undetermined_fields
    head: str = ""

    def config(self, shapes: Shapes, overrides: Overrides) -> ViTConfig:
        """Return the config of a checkpoint of these `shapes`, by the names of the table.

        Raises:
            BundleError: for tensors that are missing, or of a model that cannot be read.
            ConfigError: when the sizes do not fit together.
        """
        for name, reason in self.unsupported.items():
            if name in shapes:
                raise BundleError(f"the checkpoint {reason}")
        return make_config(self.fields(CheckpointFacts(shapes, overrides)), overrides)

    def key_rules(self, config: ViTConfig) -> list[ResolvedRule]:
        """Return the key table of a config."""
        return resolve_rules(self.rules, config)

    def names(self, found: Iterable[str]) -> dict[str, str]:
        """Return those tensors of a checkpoint that are of the model: name -> name in the table.

        Raises:
            BundleError: when two names mean the same tensor.
        """
        found = list(found)
        tower = next((tower for tower in self.towers if any(name.startswith(tower) for name in found)), "")
        left_out = [*self.left_out, *(what for name, what in self.left_out_beside.items() if name in found)]
        names: dict[str, str] = {}
        originals: dict[str, str] = {}
        for name in (name for name in found if name.startswith(tower)):
            bare = name.removeprefix(tower)
            bare = bare.removeprefix(next((prefix for prefix in self.prefixes if bare.startswith(prefix)), ""))
            for pattern, replacement in self.renamed.items():
                bare = re.sub(pattern, replacement, bare)
            if any(re.match(pattern, bare) for pattern in left_out):
                continue
            if bare in originals:
                raise BundleError(
                    f"the checkpoint has {originals[bare]} and {name}, which are the same tensor; keep one"
                )
            names[name], originals[bare] = bare, name
        return names
