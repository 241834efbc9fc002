"""Define named model sizes.

Ti to e are the plain ViT of their papers, so that published weights fit; 22B has its own design. pico to mini have the
MegaVit design, for small images and small data; the hybrids (arXiv 2010.11929, section 3.1) have few layers after
convolutions.
"""

from dataclasses import dataclass, replace

from megavit.config.vit import PLAIN_VIT, Design, Pool, Size, ViTConfig
from megavit.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """A named model size, in tokens and pixels, and its source."""

    image_size: int
    patch_size: int
    dim: int
    depth: int
    heads: int
    mlp_dim: int
    dim_head: int
    pool: Pool
    design: Design
    source: str


_MEGAVIT = Design()
_HYBRID = Design(stem="conv", norm="batch")
_VIT, _DEIT, _SCALING = "arXiv 2010.11929, table 1", "arXiv 2012.12877, table 1", "arXiv 2106.04560, table 2"

# fmt: off
PRESETS: dict[str, Preset] = {
    #                image patch   dim depth heads  mlp_dim head  pool    design     source
    "pico":   Preset(   8,    2,   64,    4,    2,     192,  32, "mean", _MEGAVIT,  "ours: 8 to 16 pixels"),
    "nano":   Preset(  32,    4,  128,    5,    4,     384,  32, "mean", _MEGAVIT,  "ours: 24 to 40 pixels"),
    "micro":  Preset(  64,    8,  192,    6,    3,     576,  64, "mean", _MEGAVIT,  "ours: minutes on a laptop"),
    "mini":   Preset( 128,   16,  256,    8,    4,     768,  64, "mean", _MEGAVIT,  "ours: an hour on a laptop"),
    "hybrid-nano":  Preset( 48,  8, 128, 2,  4,  384,  32, "mean", _HYBRID, "ours: photographs, minutes on a laptop"),
    "hybrid-micro": Preset( 64,  8, 192, 3,  6,  576,  32, "mean", _HYBRID, "ours: photographs, an hour on a laptop"),
    "hybrid-mini":  Preset(128, 16, 256, 4,  8,  768,  32, "mean", _HYBRID, "ours: photographs, hours on a laptop"),
    "Ti":     Preset( 224,   16,  192,   12,    3,     768,  64, "cls",  PLAIN_VIT, _DEIT),
    "S":      Preset( 224,   16,  384,   12,    6,    1536,  64, "cls",  PLAIN_VIT, _DEIT),
    "B":      Preset( 224,   16,  768,   12,   12,    3072,  64, "cls",  PLAIN_VIT, _VIT),
    "L":      Preset( 224,   16, 1024,   24,   16,    4096,  64, "cls",  PLAIN_VIT, _VIT),
    "So400m": Preset( 224,   14, 1152,   27,   16,    4304,  72, "map",  PLAIN_VIT, "arXiv 2305.13035, section 4"),
    "H":      Preset( 224,   14, 1280,   32,   16,    5120,  80, "cls",  PLAIN_VIT, _VIT),
    "g":      Preset( 224,   14, 1408,   40,   16,    6144,  88, "cls",  PLAIN_VIT, _SCALING),
    "G":      Preset( 224,   14, 1664,   48,   16,    8192, 104, "cls",  PLAIN_VIT, _SCALING),
    "e":      Preset( 224,   14, 1792,   56,   16,   15360, 112, "cls",  PLAIN_VIT, "arXiv 2209.06794, table 2"),
    "22B":    Preset( 224,   14, 6144,   48,   48,   24576, 128, "map",  _MEGAVIT,  "arXiv 2302.05442, table 1"),
}
# fmt: on


def preset(
    name: str,
    *,
    num_classes: int = 1000,
    image_size: Size | None = None,
    patch_size: Size | None = None,
    channels: int = 3,
    design: Design | None = None,
) -> ViTConfig:
    """Return the `ViTConfig` of a row of `PRESETS`, adapted to the data and, if given, to another design.

    Raises:
        ConfigError: if the name is unknown or the sizes do not fit together.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}: choose one of {', '.join(PRESETS)}")
    row = PRESETS[name]
    config = ViTConfig(
        image_size=row.image_size if image_size is None else image_size,
        patch_size=row.patch_size if patch_size is None else patch_size,
        num_classes=num_classes,
        dim=row.dim,
        depth=row.depth,
        heads=row.heads,
        mlp_dim=row.mlp_dim,
        pool=row.pool,
        channels=channels,
        dim_head=row.dim_head,
        design=row.design,
    )
    return config if design is None else replace(config, design=design)
