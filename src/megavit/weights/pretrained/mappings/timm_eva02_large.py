"""timm's EVA-02 of base size and above, whose queries, keys and values are projected apart: see `timm_eva02`."""

from megavit.weights.pretrained.mappings.timm_eva02 import assumed, config_of, table

__all__ = ["TOLD_BY", "assumed", "config_of", "table"]

TOLD_BY = ("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.q_proj.weight", "blocks.0.mlp.norm.weight")
