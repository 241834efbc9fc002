"""What timm's architectures are and no tensor tells, by their names: the arguments that their functions give.

A test compares every row with the installed timm.
"""

import json
from dataclasses import dataclass
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


def parsed(table: str) -> dict[str, Architecture]:
    """Return name -> architecture for a text of "class argument=value ...", each followed by "depth/heads name ..."."""
    found: dict[str, Architecture] = {}
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
                found[word] = Architecture(model, common | sizes)
    return found


ARCHITECTURES = parsed("""
VisionTransformer act_layer="gelu_tanh" global_pool="avg"
    12/12 vit_base_patch32_siglip_gap_256
    24/16 vit_large_patch16_siglip_gap_512
    27/16 vit_so400m_patch16_siglip_gap_256 vit_so400m_patch16_siglip_gap_384 vit_so400m_patch16_siglip_gap_512
    40/16 vit_giantopt_patch16_siglip_gap_256 vit_giantopt_patch16_siglip_gap_384
VisionTransformer act_layer="gelu_tanh" global_pool="map"
    12/12 vit_base_patch32_siglip_256
    24/16 vit_large_patch16_siglip_512
    27/16 vit_so400m_patch16_siglip_256 vit_so400m_patch16_siglip_384 vit_so400m_patch16_siglip_512
    40/16 vit_giantopt_patch16_siglip_256 vit_giantopt_patch16_siglip_384
VisionTransformer act_layer="quick_gelu" norm_eps=1e-5
    12/12 vit_base_patch16_clip_quickgelu_224 vit_base_patch32_clip_quickgelu_224
    24/16 vit_large_patch14_clip_quickgelu_224 vit_large_patch14_clip_quickgelu_336
    32/16 vit_huge_patch14_clip_quickgelu_224 vit_huge_patch14_clip_quickgelu_378
    48/16 vit_gigantic_patch14_clip_quickgelu_224
VisionTransformer act_layer="silu" embed_norm_layer="rmsnorm" global_pool="avg" mlp_layer="SwiGLU" norm="rms"
        norm_eps=1e-5 proj_bias=false
    24/8 aimv2_large_patch14_224 aimv2_large_patch14_336 aimv2_large_patch14_448
    24/12 aimv2_huge_patch14_224 aimv2_huge_patch14_336 aimv2_huge_patch14_448
    24/16 aimv2_1b_patch14_224 aimv2_1b_patch14_336 aimv2_1b_patch14_448
    24/24 aimv2_3b_patch14_224 aimv2_3b_patch14_336 aimv2_3b_patch14_448
VisionTransformer act_layer="silu" mlp_layer="SwiGLUPacked"
    40/24 vit_giant_patch14_dinov2 vit_giant_patch14_reg1_tipsv2 vit_giant_patch14_reg4_dinov2
VisionTransformer attn_layer="diff" global_pool="avg"
    14/4 vit_dwee_patch16_reg1_gap_256
    14/5 vit_dlittle_patch16_reg1_gap_256
VisionTransformer block_fn="DiffParallelScalingBlock" global_pool="avg"
    16/4 vit_dpwee_patch16_reg1_gap_256
VisionTransformer block_fn="ParallelScalingBlock" global_pool="avg"
    16/4 vit_pwee_patch16_reg1_gap_256
VisionTransformer block_fn="ParallelScalingBlock" norm="rms"
    12/12 vit_base_patch16_xp_224
    24/16 vit_large_patch14_xp_224
    32/16 vit_huge_patch14_xp_224
VisionTransformer block_fn="ParallelThingsBlock"
    18/6 vit_small_patch16_18x2_224
    18/12 vit_base_patch16_18x2_224
VisionTransformer block_fn="ResPostBlock" global_pool="avg"
    12/12 vit_base_patch16_rpn_224
VisionTransformer final_norm=false
    12/12 vit_base_patch16_radio_v3
    24/16 vit_intern300m_patch14_448 vit_large_patch16_radio_v3
    27/16 vit_so400m_patch16_radio_v4
    32/16 vit_huge_patch16_radio_v3 vit_huge_patch16_radio_v4
    40/24 vit_giant_patch16_radio_v3
VisionTransformer global_pool="avg" norm="rms"
    9/3 test_vit4
VisionTransformer global_pool="avg" norm_eps=1e-5
    12/12 beit3_base_patch16_224
    24/16 beit3_large_patch16_224
    40/16 beit3_giant_patch14_224 beit3_giant_patch14_336
VisionTransformer global_pool="avg"
    8/2 test_vit2
    12/8 vit_medium_patch16_gap_240 vit_medium_patch16_gap_256 vit_medium_patch16_gap_384
        vit_medium_patch16_reg1_gap_256 vit_medium_patch16_reg4_gap_256
    12/10 vit_betwixt_patch16_gap_256 vit_betwixt_patch16_reg1_gap_256 vit_betwixt_patch16_reg4_gap_256
        vit_betwixt_patch16_reg4_gap_384
    12/12 vit_base_patch16_reg4_gap_256 vit_base_patch16_siglip_gap_224 vit_base_patch16_siglip_gap_256
        vit_base_patch16_siglip_gap_384 vit_base_patch16_siglip_gap_512
    12/16 vit_base_patch16_gap_224
    14/4 vit_wee_patch16_reg1_gap_256
    14/5 vit_little_patch16_reg1_gap_256 vit_little_patch16_reg4_gap_256
    18/14 vit_so150m_patch16_reg4_gap_256 vit_so150m_patch16_reg4_gap_384
    20/8 vit_mediumd_patch16_reg4_gap_256 vit_mediumd_patch16_reg4_gap_384
    21/13 vit_so150m2_patch16_reg1_gap_256 vit_so150m2_patch16_reg1_gap_384 vit_so150m2_patch16_reg1_gap_448
    24/16 eva_large_patch14_196 eva_large_patch14_336 vit_large_patch16_siglip_gap_256
        vit_large_patch16_siglip_gap_384
    27/16 vit_so400m_patch14_siglip_gap_224 vit_so400m_patch14_siglip_gap_378 vit_so400m_patch14_siglip_gap_384
        vit_so400m_patch14_siglip_gap_448 vit_so400m_patch14_siglip_gap_896
    32/16 vit_huge_patch14_gap_224 vit_huge_patch16_gap_448
    40/16 vit_giant_patch16_gap_224
VisionTransformer global_pool="map" pool_include_prefix=true
    9/3 test_vit3
VisionTransformer global_pool="map"
    12/12 vit_base_patch16_siglip_224 vit_base_patch16_siglip_256 vit_base_patch16_siglip_384
        vit_base_patch16_siglip_512
    18/14 vit_so150m_patch16_reg4_map_256
    24/16 vit_large_patch16_siglip_256 vit_large_patch16_siglip_384
    27/16 vit_so400m_patch14_siglip_224 vit_so400m_patch14_siglip_378 vit_so400m_patch14_siglip_384
VisionTransformer norm_eps=1e-5
    10/4 vit_xsmall_patch16_clip_224
    12/8 vit_medium_patch16_clip_224 vit_medium_patch32_clip_224
    12/10 vit_betwixt_patch32_clip_224
    12/12 vit_base_patch16_clip_224 vit_base_patch16_clip_384 vit_base_patch32_clip_224 vit_base_patch32_clip_256
        vit_base_patch32_clip_384 vit_base_patch32_clip_448
    12/14 vit_base_patch16_plus_clip_240
    24/16 vit_large_patch14_clip_224 vit_large_patch14_clip_336
    32/16 vit_huge_patch14_clip_224 vit_huge_patch14_clip_336 vit_huge_patch14_clip_378
    40/16 vit_giant_patch14_clip_224
    48/16 vit_gigantic_patch14_clip_224 vit_gigantic_patch14_clip_378
VisionTransformer
    6/2 test_vit
    12/3 vit_tiny_patch16_224 vit_tiny_patch16_384 deit_tiny_patch16_224
    12/6 flexivit_small vit_small_patch8_224 vit_small_patch14_dinov2 vit_small_patch14_reg4_dinov2
        vit_small_patch16_224 vit_small_patch16_384 vit_small_patch32_224 vit_small_patch32_384
        deit3_small_patch16_224 deit3_small_patch16_384 deit_small_patch16_224
    12/8 deit3_medium_patch16_224
    12/12 flexivit_base vit_base_patch8_224 vit_base_patch14_dinov2 vit_base_patch14_reg1_tipsv2
        vit_base_patch14_reg4_dinov2 vit_base_patch16_224 vit_base_patch16_224_miil vit_base_patch16_384
        vit_base_patch32_224 vit_base_patch32_384 deit3_base_patch16_224 deit3_base_patch16_384
        deit_base_patch16_224 deit_base_patch16_384
    12/14 vit_base_patch16_plus_240 vit_base_patch32_plus_256
    24/16 flexivit_large vit_large_patch14_224 vit_large_patch14_dinov2 vit_large_patch14_reg1_tipsv2
        vit_large_patch14_reg4_dinov2 vit_large_patch16_224 vit_large_patch16_384 vit_large_patch32_224
        vit_large_patch32_384 deit3_large_patch16_224 deit3_large_patch16_384
    27/16 vit_so400m_patch14_reg1_tipsv2
    32/16 vit_huge_patch14_224 deit3_huge_patch14_224
    36/6 vit_small_patch16_36x1_224
    40/16 vit_giant_patch14_224
    48/16 vit_gigantic_patch14_224
Eva attn_only_layer_scale=true global_pool="token" norm="rms" rope_rotate_half=true rope_temperature=100
        rope_type="dinov3" swiglu_mlp=true use_abs_pos_emb=false use_rot_pos_emb=true
    12/12 vit_base_patch16_sapiens2
    24/16 vit_large_patch16_sapiens2
    32/16 vit_huge_patch16_sapiens2
    40/24 vit_giant_patch16_sapiens2
    56/32 vit_5b_patch16_sapiens2
Eva attn_pool_num_heads=8 global_pool="map" norm_eps=1e-5 ref_feat_shape=[14,14] rope_grid_indexing="xy"
        rope_grid_offset=1.0 use_rot_pos_emb=true
    12/12 vit_pe_core_base_patch16_224
Eva attn_pool_num_heads=8 global_pool="map" norm_eps=1e-5 ref_feat_shape=[24,24] rope_grid_indexing="xy"
        rope_grid_offset=1.0 use_rot_pos_emb=true
    12/3 vit_pe_core_tiny_patch16_384
    12/6 vit_pe_core_small_patch16_384
    24/16 vit_pe_core_large_patch14_336
Eva attn_pool_num_heads=8 global_pool="map" norm_eps=1e-5 ref_feat_shape=[32,32] rope_grid_indexing="xy"
        use_rot_pos_emb=true
    50/16 vit_pe_core_gigantic_patch14_448
Eva global_pool="token" norm_eps=1e-5 rope_rotate_half=true rope_temperature=100 rope_type="dinov3" swiglu_mlp=true
        use_abs_pos_emb=false use_rot_pos_emb=true
    40/24 vit_giant_patch16_lingbot
Eva global_pool="token" norm_eps=1e-5 rope_rotate_half=true rope_temperature=100 rope_type="dinov3"
        use_abs_pos_emb=false use_rot_pos_emb=true
    12/6 vit_small_patch16_lingbot
    12/12 vit_base_patch16_lingbot
    24/16 vit_large_patch16_lingbot
Eva global_pool="token" ref_feat_shape=[16,16] swiglu_mlp=true use_rot_pos_emb=true
    12/12 eva02_base_patch16_clip_224
    24/16 eva02_large_patch14_clip_224 eva02_large_patch14_clip_336
Eva global_pool="token" rope_grid_indexing="xy" rope_temperature=10.0 rope_type="mixed" use_abs_pos_emb=false
        use_rot_pos_emb=true
    12/6 vit_small_patch16_rope_mixed_224
    12/12 vit_base_patch16_rope_mixed_224
    24/16 vit_large_patch16_rope_mixed_224
Eva global_pool="token" rope_grid_indexing="xy" rope_temperature=10.0 rope_type="mixed" use_rot_pos_emb=true
    12/6 vit_small_patch16_rope_mixed_ape_224
    12/12 vit_base_patch16_rope_mixed_ape_224
    24/16 vit_large_patch16_rope_mixed_ape_224
Eva global_pool="token" rope_grid_indexing="xy" rope_temperature=100.0 use_abs_pos_emb=false use_rot_pos_emb=true
    12/6 vit_small_patch16_rope_224
    12/12 vit_base_patch16_rope_224
    24/16 vit_large_patch16_rope_224
Eva global_pool="token" rope_grid_indexing="xy" rope_temperature=100.0 use_rot_pos_emb=true
    12/6 vit_small_patch16_rope_ape_224
    12/12 vit_base_patch16_rope_ape_224
    24/16 vit_large_patch16_rope_ape_224
Eva global_pool="token" use_post_norm=true
    64/16 eva02_enormous_patch14_clip_224
Eva global_pool="token"
    40/16 eva_giant_patch14_clip_224
Eva norm_eps=1e-5 ref_feat_shape=[32,32] rope_grid_indexing="xy" rope_grid_offset=1.0
        use_post_transformer_norm=false use_rot_pos_emb=true
    12/3 vit_pe_spatial_tiny_patch16_512
    12/6 vit_pe_spatial_small_patch16_512
    12/12 vit_pe_spatial_base_patch16_512
    23/16 vit_pe_lang_large_patch14_448
    24/16 vit_pe_spatial_large_patch14_448
Eva norm_eps=1e-5 ref_feat_shape=[32,32] rope_grid_indexing="xy" use_post_transformer_norm=false
        use_rot_pos_emb=true
    47/16 vit_pe_lang_gigantic_patch14_448
    50/16 vit_pe_spatial_gigantic_patch14_448
Eva norm_eps=1e-5 rope_rotate_half=true rope_temperature=100 rope_type="dinov3" swiglu_mlp=true
        use_abs_pos_emb=false use_rot_pos_emb=true
    12/6 vit_small_plus_patch16_dinov3 vit_small_plus_patch16_dinov3_qkvb
    32/20 vit_huge_plus_patch16_dinov3 vit_huge_plus_patch16_dinov3_qkvb
    40/32 vit_7b_patch16_dinov3
Eva norm_eps=1e-5 rope_rotate_half=true rope_temperature=100 rope_type="dinov3" use_abs_pos_emb=false
        use_rot_pos_emb=true
    12/3 vit_tiny_patch16_dinov3_qkvb
    12/6 vit_small_patch16_dinov3 vit_small_patch16_dinov3_qkvb
    12/12 vit_base_patch16_dinov3 vit_base_patch16_dinov3_qkvb
    24/16 vit_large_patch16_dinov3 vit_large_patch16_dinov3_qkvb
Eva ref_feat_shape=[16,16] swiglu_mlp=true use_rot_pos_emb=true
    12/3 eva02_tiny_patch14_224 eva02_tiny_patch14_336
    12/6 eva02_small_patch14_224 eva02_small_patch14_336
    12/12 eva02_base_patch14_224 eva02_base_patch14_448
    24/16 eva02_large_patch14_224 eva02_large_patch14_448
Eva ref_feat_shape=[16,16] use_abs_pos_emb=false use_rot_pos_emb=true
    12/8 vit_medium_patch16_rope_reg1_gap_256
    12/10 vit_betwixt_patch16_rope_reg4_gap_256
    12/12 vit_base_patch16_rope_reg1_gap_256
    20/8 vit_mediumd_patch16_rope_reg1_gap_256
Eva
    40/16 eva_giant_patch14_224 eva_giant_patch14_336 eva_giant_patch14_560
""")
