"""Key mapping for torchvision's `VisionTransformer` (`vit_b_16` to `vit_h_14`)."""

from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat
from megavit.weights.pretrained.mappings.config_from_shapes import CheckpointFacts, Fields
from megavit.weights.pretrained.mappings.key_mapping import renames, rule

LAYER = "encoder.layers.encoder_layer_{i}"
RULES = (
    rule("conv_proj.weight: D C P Q", "patch_embedding.projection.weight"),
    rule("class_token: 1 1 D", "prefix_tokens.class_token"),
    rule("encoder.pos_embedding: 1 * D", ["prefix_tokens.class_position", "positions.table"]),
    rule(f"{LAYER}.self_attention.in_proj_weight: 3D D", "transformer.layers.{i}.attention.to_qkv.weight"),
    rule(f"{LAYER}.self_attention.in_proj_bias: 3D", "transformer.layers.{i}.attention.to_qkv.bias"),
    *renames({
        "conv_proj": "patch_embedding.projection",
        f"{LAYER}.ln_1": "transformer.layers.{i}.attention_norm",
        f"{LAYER}.self_attention.out_proj": "transformer.layers.{i}.attention.out",
        f"{LAYER}.ln_2": "transformer.layers.{i}.mlp_norm",
        f"{LAYER}.mlp.0": "transformer.layers.{i}.mlp.into",
        f"{LAYER}.mlp.3": "transformer.layers.{i}.mlp.out",
        "encoder.ln": "norm",
        "heads.head": "mlp_head",
    }),
)  # fmt: skip


def fields_of(facts: CheckpointFacts) -> Fields:
    """Return the config fields of a checkpoint; raise a BundleError for a stem of several convolutions."""
    if "conv_proj.weight" not in facts:
        raise BundleError("the checkpoint embeds patches by several convolutions, but megavit uses one")
    fields = facts.plain_fields(
        kernel="conv_proj.weight",
        layers="encoder.layers.encoder_layer_",
        mlp_out=f"{LAYER.format(i=0)}.mlp.3.weight",
        head="heads.head.weight",
    )
    patches = facts.shape("encoder.pos_embedding", axes=3)[1] - 1
    return fields | {"image_size": facts.image_size(patches, fields["patch_size"])}


TORCHVISION = CheckpointFormat(
    name="torchvision",
    signature=("class_token", "encoder.pos_embedding", f"{LAYER.format(i=0)}.self_attention.in_proj_weight"),
    rules=RULES,
    fields=fields_of,
    unsupported={
        "heads.pre_logits.weight": "has a head of two layers (representation_size), but megavit's has one",
    },
    renamed={r"mlp\.linear_1": "mlp.0", r"mlp\.linear_2": "mlp.3"},  # of older versions
    head="heads.head",
)
