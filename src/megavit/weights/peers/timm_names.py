"""What no shape in a file of timm's tells, but the name of its architecture does."""

import re
from collections.abc import Mapping
from typing import Any

from megavit.errors import BundleError
from megavit.weights.peers.shapes import Known

# The first pattern that is found in the name, and what is true of such models.
FACTS: dict[str, dict[str, Any]] = {
    "_quickgelu_": {"mlp": "quick_gelu"},
    # SigLIP's activation as its paper has it; the others were published with GELU itself.
    r"giantopt_patch16_siglip|so400m_patch16_siglip|base_patch32_siglip|large_patch16_siglip\w*_512": {
        "mlp": "gelu_tanh"
    },
    r"^vit_base_patch16_gap_224(\.|$)": {"heads": 16},
}
REFUSED = {"_rpn_": "its blocks normalise behind their branches"}
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
    facts = next((facts for pattern, facts in FACTS.items() if re.search(pattern, name)), {})
    pool = settings.get("global_pool")
    if pool is None:
        return facts
    if pool not in POOLS:
        raise BundleError(f"config.json has global_pool {pool!r}; megavit's model has only {', '.join(POOLS)}")
    return facts | {"pool": POOLS[pool]}
