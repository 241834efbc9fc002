"""What timm's config.json says of a model: the parts that shapes do not show, the preprocessing, the labels."""

import re
from typing import Any

from megavit.weights.peers.shapes import Known

# Architectures by name, and what they are besides their shapes; a test holds it against every ViT of timm's.
FACTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"_clip_", {"norm_eps": 1e-5}),
    (r"_clip_quickgelu_", {"mlp": "quick_gelu"}),
    (r"vit_(so400m_patch16|giantopt_patch16|base_patch32)_siglip", {"mlp": "gelu_tanh"}),
    (r"vit_large_patch16_siglip_(gap_)?512", {"mlp": "gelu_tanh"}),
    (r"vit_giantopt_patch16_siglip", {"heads": 16}),
    (r"vit_base_patch16_gap_224", {"heads": 16}),
    (r"^test_vit", {"heads": 2}),
)
POOLS = {"token": "cls", "avg": "mean", "map": "map"}


def known(settings: dict[str, Any]) -> Known:
    """Facts for `config_of`, from a config.json with `architecture` and perhaps `model_args`."""
    architecture = str(settings.get("architecture", ""))
    facts: dict[str, Any] = {}
    for pattern, more in FACTS:
        if re.search(pattern, architecture):
            facts |= more
    arguments = {**settings, **(settings.get("model_args") or {})}
    if arguments.get("num_heads"):
        facts["heads"] = arguments["num_heads"]
    if arguments.get("global_pool") in POOLS:
        facts["pool"] = POOLS[arguments["global_pool"]]
    size = arguments.get("img_size") or (settings.get("pretrained_cfg") or {}).get("input_size", ())[1:]
    if size:
        facts["image_size"] = size if isinstance(size, int) else tuple(size)
    return facts
