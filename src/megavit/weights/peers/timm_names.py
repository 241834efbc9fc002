"""What no shape in a file of timm's tells, but the name of its architecture does."""

import re
from collections.abc import Mapping
from typing import Any, get_args

from megavit.config.vit import Mlp, pair
from megavit.errors import BundleError
from megavit.weights.peers.shapes import Known

# Patterns in the name, and what is true of such models.
FACTS: dict[str, dict[str, Any]] = {
    "^vit_.*_clip_": {"norm_eps": 1e-5},  # and not EVA-CLIP
    "_quickgelu_": {"mlp": "quick_gelu"},
    # SigLIP's activation as its paper has it; the others were published with GELU itself.
    r"giantopt_patch16_siglip|so400m_patch16_siglip|base_patch32_siglip|large_patch16_siglip\w*_512": {
        "mlp": "gelu_tanh"
    },
    r"^vit_base_patch16_gap_224(\.|$)": {"heads": 16},
}
REFUSED = {
    "_rpn_|^eva02_enormous_": "its blocks normalise behind their branches",
    "_pe_core_": "its positions are learned and rotary, and heads of the pooling are not those of the layers",
}
POOLS = {"token": "cls", "avg": "mean", "map": "map"}


def known(settings: Mapping[str, Any]) -> Known:
    """From timm's config.json, or from as little of it as {"architecture": NAME}.

    Raises:
        BundleError: for what the model cannot be.
    """
    name = str(settings.get("architecture", ""))
    for pattern, reason in REFUSED.items():
        if re.search(pattern, name):
            raise BundleError(f"timm's {name} is no model that megavit has: {reason}")
    facts: dict[str, Any] = {}
    for pattern, more in FACTS.items():
        facts |= more if re.search(pattern, name) else {}
    return facts | _arguments({**settings, **(settings.get("model_args") or {})})


def _arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """What timm's `create_model` was told beside the name."""
    facts: dict[str, Any] = {}
    pool, act = given.get("global_pool"), given.get("act_layer")
    if pool is not None:
        if pool not in POOLS:
            raise BundleError(f"config.json has global_pool {pool!r}; megavit's model has only {', '.join(POOLS)}")
        facts["pool"] = POOLS[pool]
    if act is not None:
        if act not in get_args(Mlp):
            raise BundleError(
                f"config.json has act_layer {act!r}, which megavit lacks; it has {', '.join(get_args(Mlp))}"
            )
        facts["mlp"] = act
    if given.get("num_heads") is not None:
        facts["heads"] = given["num_heads"]
    size = given.get("img_size") or (given.get("pretrained_cfg") or {}).get("input_size", ())[1:]
    return facts | ({"image_size": pair("image_size", size)} if size else {})
