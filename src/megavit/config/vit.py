"""How big a MegaVit is (`ViTConfig`, the twelve numbers) and which parts it has (`Design`)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from megavit.config.checks import Settings, check_fraction, check_integer, check_positive, checked
from megavit.errors import ConfigError

Pool = Literal["cls", "mean", "map"]
Block = Literal["parallel", "serial", "zeta"]
Norm = Literal["layer", "rms"]
Mlp = Literal["gelu", "gelu_tanh", "quick_gelu", "swiglu", "relu2"]
Positions = Literal["learned", "sincos", "rope", "learned_rope", "learned_rope_native", "rope_grid"]
PrefixPositions = Literal["none", "class", "all"]
FinalNorm = Literal["tokens", "pooled"]

Size = int | Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Design(Settings):
    """Which parts a MegaVit is made of. The defaults are ViT-22B's (arXiv 2302.05442, section 2).

    Attributes:
        block: "parallel" adds attention and MLP of one shared norm to the stream; "serial" is the block
            of the original ViT (arXiv 2010.11929): attention, then MLP, each with its own norm; "zeta" is that of
            zetascale's MegaVit, for its published weights alone (see `megavit.model.zeta`).
        qk_norm: normalize queries and keys, per head, before their dot product.
        qkv_bias: biases in the query, key and value projections.
        norm: "layer" (LayerNorm) or "rms" (RMSNorm), everywhere in the model.
        norm_bias: biases in the norms; RMSNorm never has any.
        norm_eps: added to the variance in every norm.
        pre_norm: a norm of the embedded tokens before the first layer (CLIP, arXiv 2103.00020).
        patch_norm: a norm of each patch's pixels, and one of its projection (arXiv 2302.01327).
        final_norm: of the "tokens", before pooling, or of the "pooled" vector.
        mlp: "gelu"; its approximations "gelu_tanh" and "quick_gelu", x sigmoid(1.702 x) (arXiv 1606.08415,
            section 2), for weights trained with them; "relu2" (squared ReLU, arXiv 2109.08668); or "swiglu"
            (arXiv 2002.05202).
        attention_out_norm: a norm of what the heads have mixed, before its projection (arXiv 2210.06423).
        mlp_out_norm: a norm of the MLP's hidden channels, before their projection (the same).
        positions: "learned" table, "sincos" (fixed, 2-D), "rope" (rotary, 2-D axial, in attention), or
            for weights trained with them "rope_grid", other rotary ones (arXiv 2303.11331, section 2.2),
            "learned_rope", these and a table, and "learned_rope_native", a table and those of a Perception Encoder
            (arXiv 2504.13181).
        prefix_positions: where positions are learned, which tokens before the patches have one too: "none", the
            "class" token, or "all".
        pool_heads: of attention pooling; None for as many as the layers have.
        pool_prefix: attention pooling sees the tokens before the patches, too.
        patch_overlap: pixels by which a patch sees beyond each of its sides (arXiv 2106.13797, section 3).
        registers: extra learned tokens without meaning of their own (arXiv 2309.16588).
        layer_scale: starting value of a learned factor per channel on each branch (arXiv 2103.17239).
        drop_path: probability in [0, 1) of skipping the last block's branches for a sample, growing
            linearly from 0 at the first block (arXiv 1603.09382).
        patch_drop: share of patches in [0, 1) left out of each training step (arXiv 2212.00794).
    """

    block: Block = "parallel"
    qk_norm: bool = True
    qkv_bias: bool = False
    norm: Norm = "layer"
    norm_bias: bool = False
    norm_eps: float = checked(check_positive, 1e-6)
    pre_norm: bool = False
    patch_norm: bool = False
    final_norm: FinalNorm = "tokens"
    mlp: Mlp = "gelu"
    attention_out_norm: bool = False
    mlp_out_norm: bool = False
    positions: Positions = "learned"
    prefix_positions: PrefixPositions = "class"
    pool_heads: int | None = checked(check_integer, None, minimum=1)
    pool_prefix: bool = False
    patch_overlap: int = checked(check_integer, 0, minimum=0)
    registers: int = checked(check_integer, 0, minimum=0)
    layer_scale: float | None = checked(check_positive, None)
    drop_path: float = checked(check_fraction, 0.0)
    patch_drop: float = checked(check_fraction, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block == "zeta":
            self._check_zeta()

    @property
    def rotary(self) -> bool:
        """Whether attention turns its queries and keys by their places."""
        return "rope" in self.positions

    def _check_zeta(self) -> None:
        """That block has no choice of these parts."""
        parts = {
            "qk_norm": False,
            "qkv_bias": False,
            "norm": "layer",
            "norm_bias": True,
            "attention_out_norm": False,
            "mlp_out_norm": False,
            "positions": "learned",
            "layer_scale": None,
            "drop_path": 0.0,
        }
        for name, wanted in parts.items():
            if getattr(self, name) != wanted:
                raise ConfigError(
                    f'block "zeta" is for the weights of zetascale, whose {name} is {wanted!r}; '
                    f"got {getattr(self, name)!r}"
                )


PLAIN_VIT = Design(block="serial", qk_norm=False, qkv_bias=True, norm_bias=True)
"""The original ViT (arXiv 2010.11929): serial blocks, every bias, no norm on queries and keys."""

ZETA = Design(block="zeta", qk_norm=False, norm_bias=True, norm_eps=1e-5, patch_norm=True)
"""zetascale's MegaVit, for its weights; not to begin with, as its block is worse than the others."""


@dataclass(frozen=True, kw_only=True)
class ViTConfig(Settings):
    """Everything that decides the shape of a MegaVit.

    Attributes:
        image_size: pixels, one number for a square or (height, width); divisible by `patch_size`.
        patch_size: pixels, one number or (height, width).
        num_classes: width of the logits; 0 for a model that answers with pooled features.
        dim: width of a token.
        depth: number of transformer layers.
        heads: attention heads in each layer.
        mlp_dim: hidden width of the MLP.
        pool: "cls" (a class token), "mean" (of the patch tokens alone), or "map" (attention pooling,
            arXiv 2106.04560 appendix).
        channels: of the image.
        dim_head: width of one head; `heads * dim_head` need not equal `dim`.
        dropout: probability in [0, 1) inside attention and MLP.
        emb_dropout: probability in [0, 1) on the embedded tokens.
        design: which parts.

    Raises:
        ConfigError: (a ValueError) naming the setting, what it may be, and what came.
    """

    image_size: Size
    patch_size: Size
    num_classes: int
    dim: int
    depth: int
    heads: int
    mlp_dim: int
    pool: Pool = "cls"
    channels: int = checked(check_integer, 3, minimum=1)
    dim_head: int = checked(check_integer, 64, minimum=1)
    dropout: float = checked(check_fraction, 0.0)
    emb_dropout: float = checked(check_fraction, 0.0)
    design: Design = field(default_factory=Design)

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", pair("image_size", self.image_size))
        object.__setattr__(self, "patch_size", pair("patch_size", self.patch_size))
        for name in ("dim", "depth", "heads", "mlp_dim"):
            check_integer(name, getattr(self, name), minimum=1)
        check_integer("num_classes", self.num_classes, minimum=0)
        super().__post_init__()
        if not isinstance(self.design, Design):
            raise ConfigError(f"design must be a megavit.Design, got {self.design!r}")
        check_divisible(self.image_hw, self.patch_hw)
        if self.design.positions == "sincos" and self.dim % 4:
            raise ConfigError(f"sincos positions need dim to divide by 4, got dim {self.dim}")
        if self.design.rotary and self.dim_head % 4:
            raise ConfigError(
                f"{self.design.positions} positions need dim_head to divide by 4, got dim_head {self.dim_head}"
            )
        if self.pool == "map" and self.dim % self.pool_heads:
            raise ConfigError(f"map pooling splits dim over heads: {self.dim} does not divide by {self.pool_heads}")

    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return pair("image_size", self.image_size)

    @property
    def patch_hw(self) -> tuple[int, int]:
        """(height, width) of a patch in pixels."""
        return pair("patch_size", self.patch_size)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        (height, width), (patch_height, patch_width) = self.image_hw, self.patch_hw
        return height // patch_height, width // patch_width

    @property
    def num_patches(self) -> int:
        rows, columns = self.grid
        return rows * columns

    @property
    def pool_heads(self) -> int:
        """Of attention pooling."""
        return self.design.pool_heads or self.heads

    @property
    def num_pooled_tokens(self) -> int:
        """Tokens that attention pooling sees."""
        return self.num_patches + (self.num_prefix_tokens if self.design.pool_prefix else 0)

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: the class token, if any, then the registers."""
        return int(self.pool == "cls") + self.design.registers


def pair(name: str, size: Size) -> tuple[int, int]:
    """`size` as (height, width); `name` is for the message of the ConfigError."""
    sides = (size, size) if isinstance(size, int) else size
    if isinstance(sides, str | bytes) or not isinstance(sides, Sequence) or len(sides) != 2:
        raise ConfigError(f"{name} must be one whole number or a (height, width) pair, got {size!r}")
    for side in sides:
        check_integer(name, side, minimum=1)
    return sides[0], sides[1]


def check_divisible(image_hw: tuple[int, int], patch_hw: tuple[int, int]) -> None:
    """Raise a ConfigError that names the nearest sizes that work, unless the patches tile the image."""
    for what, side, patch in zip(("height", "width"), image_hw, patch_hw, strict=True):
        if side % patch:
            below, above = side // patch * patch, (side // patch + 1) * patch
            nearest = f"{below} or {above}" if below else f"{above}"
            raise ConfigError(
                f"the image's {what}, {side}, must divide by the patch's {what}, {patch}; "
                f"the nearest that does is {nearest}"
            )
