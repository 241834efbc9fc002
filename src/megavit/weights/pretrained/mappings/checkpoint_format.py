"""The description of a library's checkpoint format: tensor names, key table and config."""

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
    """The checkpoint format of one library's Vision Transformer.

    Attributes:
        name: name for messages.
        signature: tensor names that together identify the format.
        rules: key table; see `key_mapping`.
        fields: function from the facts of a checkpoint to fields of the config, with defaults for what no shape
            determines; it raises a BundleError for missing tensors, and for unsupported or ambiguous models.
        unsupported: reasons why a checkpoint that has a given tensor cannot be read, by tensor name.
        towers: prefixes that separate the model's tensors from others; the first that occurs is used.
        prefixes: prefixes of tensor names in larger models, which are removed.
        renamed: regular expressions in names without prefix, and their replacements.
        left_out: regular expressions that match the beginning of names outside the model.
        left_out_beside: such expressions that apply only if a checkpoint has a given tensor, by tensor name.
        normalize: function that converts tensors of older versions to the shapes of the table.
        settings: function that reads facts from the library's settings, which take precedence over `fields`; it raises
            a BundleError for unsupported models.
        model_types: default settings for each supported model_type of transformers.
        undetermined: function that returns the fields of a config that no tensor determines, with their values.
        head: module name of the classifier; "" if there is none or it cannot be replaced.
        head_inputs: width of the input of a classifier in a wrapper, in multiples of dim.
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
    head_inputs: int = 1

    def config(self, shapes: Shapes, overrides: Overrides) -> ViTConfig:
        """Return the config of a checkpoint with these shapes, by the names of the table.

        Raises:
            BundleError: if tensors are missing, or the model is unsupported.
            ConfigError: if the sizes are inconsistent.
        """
        for name, reason in self.unsupported.items():
            if name in shapes:
                raise BundleError(f"the checkpoint {reason}")
        return make_config(self.fields(CheckpointFacts(shapes, overrides)), overrides)

    def key_rules(self, config: ViTConfig) -> list[ResolvedRule]:
        """Return the key table for a config."""
        return resolve_rules(self.rules, config)

    def names(self, found: Iterable[str]) -> dict[str, str]:
        """Return the table's names of a checkpoint's tensors; raise a BundleError if two are the same tensor."""
        found = list(found)
        tower = next((tower for tower in self.towers if any(name.startswith(tower) for name in found)), "")
        left_out = [*self.left_out, *(pattern for name, pattern in self.left_out_beside.items() if name in found)]
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
                    f"the checkpoint has {originals[bare]} and {name}, which are the same tensor: keep only one"
                )
            names[name], originals[bare] = bare, name
        return names
