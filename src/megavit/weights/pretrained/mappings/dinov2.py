"""Key mapping for the original DINOv2 (`facebookresearch/dinov2`; arXiv 2304.07193), with and without registers.

Of its linear classifiers (`dinov2_vits14_lc` in torch.hub), those with `layers=1` are read, whose input is the class
token and the mean of the patches. Those with `layers=4` read the class tokens of four layers, and are left out.

DINOv2 resamples positions without antialiasing and slightly shifted, so outputs agree only at 518 pixels.
"""

from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat
from megavit.weights.pretrained.mappings.config_from_shapes import CheckpointFacts, Fields
from megavit.weights.pretrained.mappings.key_mapping import renames, rule
from megavit.weights.pretrained.mappings.timm_vit import SERIAL

TOWERS = ("teacher.backbone.", "backbone.")
HEAD = "linear_head"
MLP_OUT = ("blocks.0.mlp.fc2.weight", "blocks.0.mlp.w3.weight")
# Most names are timm's. The mask token is only used in pre-training, and is written as zeros.
RULES = (
    rule("register_tokens: 1 R D", "prefix_tokens.registers"),
    rule("mask_token: 1 D"),
    *renames({HEAD: "mlp_head"}),
    *renames(
        {
            "blocks.{i}.mlp.w12": "transformer.layers.{i}.mlp.into",
            "blocks.{i}.mlp.w3": "transformer.layers.{i}.mlp.out",
        },
        when=lambda config: config.design.mlp == "swiglu",
    ),
    *SERIAL,
)


def fields_of(facts: CheckpointFacts) -> Fields:
    """Return the config fields of a checkpoint; a head reads the class token and the mean of the patches."""
    gated = MLP_OUT[1] in facts
    fields = facts.plain_fields(
        kernel="patch_embed.proj.weight", layers="blocks.", mlp_out=MLP_OUT[gated], head=f"{HEAD}.weight"
    )
    fields |= {
        "image_size": facts.image_size(facts.shape("pos_embed", axes=3)[1] - 1, fields["patch_size"]),
        "pool": "cls_mean" if fields["num_classes"] else "cls",
        "qkv_bias": "blocks.0.attn.qkv.bias" in facts,
        "mlp": "swiglu" if gated else "gelu",
        "prefix_positions": "class",
        "registers": facts.tokens("register_tokens"),
        "layer_scale": 1.0 if "blocks.0.ls1.gamma" in facts else None,
    }
    return fields


DINOV2 = CheckpointFormat(
    name="DINOv2",
    signature=("mask_token", "cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"),
    rules=RULES,
    fields=fields_of,
    towers=TOWERS,
    renamed={r"^blocks\.\d+\.(\d+\.)": r"blocks.\1"},  # chunked layers
    head=HEAD,
    head_inputs=2,
)
