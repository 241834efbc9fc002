"""Define the size of a MegaVit (`ViTConfig`) and its architectural choices (`Design`)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from megavit.config.checks import Settings, check_fraction, check_integer, check_positive, checked
from megavit.errors import ConfigError

Pool = Literal["cls", "mean", "cls_mean", "map"]
Block = Literal["parallel", "serial", "zeta"]
Norm = Literal["layer", "rms", "batch"]
Mlp = Literal["gelu", "gelu_tanh", "quick_gelu", "swiglu", "relu2"]
Positions = Literal["learned", "sincos", "rope", "learned_rope", "learned_rope_native", "rope_grid"]
Stem = Literal["patch", "conv"]
PrefixPositions = Literal["none", "class", "all"]
FinalNorm = Literal["tokens", "pooled"]

Size = int | Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Design(Settings):
    """The architectural choices of a MegaVit, by default those of ViT-22B (arXiv 2302.05442, section 2).

    Attributes:
        block: "parallel" (attention and MLP on one shared norm), "serial" (attention, then MLP, each with its norm,
            as in the original ViT, arXiv 2010.11929), or "zeta" (for the weights of zetascale's MegaVit, see
            `megavit.model.zeta`).
        qk_norm: whether queries and keys are normalized per head.
        qkv_bias: whether the query, key and value projections have biases.
        norm: "layer" (LayerNorm), "rms" (RMSNorm) or "batch" (BatchNorm, but LayerNorm for queries and keys).
        norm_bias: whether LayerNorm has biases; RMSNorm has none, and BatchNorm always.
        norm_eps: epsilon added to the variance in every norm.
        pre_norm: whether embedded tokens are normalized before the first layer (CLIP, arXiv 2103.00020).
        patch_norm: whether each patch is normalized before and after its projection (arXiv 2302.01327).
        final_norm: norm of the "tokens" before pooling, or of the "pooled" vector.
        mlp: "gelu"; its approximations "gelu_tanh" and "quick_gelu", x sigmoid(1.702 x) (arXiv 1606.08415,
            section 2); "relu2" (squared ReLU, arXiv 2109.08668); or "swiglu" (arXiv 2002.05202).
        attention_out_norm: whether the heads' output is normalized before its projection (arXiv 2210.06423).
        mlp_out_norm: whether the MLP's hidden channels are normalized before their projection (arXiv 2210.06423).
        positions: "learned" (a table), "sincos" (fixed, 2-D), "rope" (2-D axial rotary), or, for weights trained with
            them, "rope_grid" (arXiv 2303.11331, section 2.2), "learned_rope" (the same and a table), and
            "learned_rope_native" (a table and the rotary embedding of Perception Encoder, arXiv 2504.13181).
        prefix_positions: tokens before the patches that have a learned position: "none", the "class" token, or "all".
        pool_heads: number of heads in attention pooling; None for `heads`.
        pool_prefix: whether attention pooling includes the tokens before the patches.
        stem: "patch" (a projection of each patch) or "conv" (3 × 3 convolutions, `megavit.model.embedding.conv_stem`).
        registers: number of register tokens (arXiv 2309.16588).
        layer_scale: initial value of LayerScale (arXiv 2103.17239); None for none.
        drop_path: probability in [0, 1) of skipping the last block's branches for a sample, growing linearly from 0
            at the first block (arXiv 1603.09382).
        patch_drop: share in [0, 1) of patches dropped in each training step (arXiv 2212.00794).
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
    stem: Stem = "patch"
    registers: int = checked(check_integer, 0, minimum=0)
    layer_scale: float | None = checked(check_positive, None)
    drop_path: float = checked(check_fraction, 0.0)
    patch_drop: float = checked(check_fraction, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stem == "conv" and self.patch_norm:
            raise ConfigError('stem "conv" has norms of its own: leave out patch_norm')
        if self.block == "zeta":
            self._check_zeta()

    @property
    def rotary(self) -> bool:
        """Whether attention uses rotary position embeddings."""
        return "rope" in self.positions

    def _check_zeta(self) -> None:
        supported = {
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
        for name, required in supported.items():
            if getattr(self, name) != required:
                raise ConfigError(
                    f'block "zeta", for the weights of zetascale, requires {name} {required!r}, '
                    f"got {getattr(self, name)!r}"
                )


PLAIN_VIT = Design(block="serial", qk_norm=False, qkv_bias=True, norm_bias=True)
"""The original ViT (arXiv 2010.11929): serial blocks, all biases, no norm of queries and keys."""

ZETA = Design(block="zeta", qk_norm=False, norm_bias=True, norm_eps=1e-5, patch_norm=True)
"""zetascale's MegaVit, for its weights only, since its block is worse than the others."""


@dataclass(frozen=True, kw_only=True)
class ViTConfig(Settings):
    """The size and the design of a MegaVit.

    Attributes:
        image_size: pixels, one number for a square or (height, width); divisible by `patch_size`.
        patch_size: pixels, one number or (height, width).
        num_classes: number of logits; 0 for a model that returns pooled features.
        dim: width of a token.
        depth: number of transformer layers.
        heads: number of attention heads per layer.
        mlp_dim: hidden width of the MLP.
        pool: "cls" (class token), "mean" (of the patch tokens), "cls_mean" (both, one after the other, as in the
            classifiers of DINOv2, arXiv 2304.07193), or "map" (attention pooling, arXiv 2106.04560, appendix).
        channels: number of image channels.
        dim_head: width of a head; `heads * dim_head` need not equal `dim`.
        dropout: dropout probability in [0, 1) in attention and MLP.
        emb_dropout: dropout probability in [0, 1) of the embedded tokens.
        design: architectural choices.

    Raises:
        ConfigError: a ValueError that names the setting, the allowed values and the given one.
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
        if self.design.stem == "conv":
            self._check_stem()
        if self.design.positions == "sincos" and self.dim % 4:
            raise ConfigError(f"sincos positions require dim to be divisible by 4, got {self.dim}")
        if self.design.rotary and self.dim_head % 4:
            raise ConfigError(
                f"{self.design.positions} positions require dim_head to be divisible by 4, got {self.dim_head}"
            )
        if self.pool == "cls_mean" and self.design.final_norm != "tokens":
            raise ConfigError(
                'pool "cls_mean" requires final_norm "tokens", as the norm is as wide as a token and the pooled vector '
                f'twice as wide; got {self.design.final_norm!r}: leave out final_norm, or choose pool "cls" or "mean"'
            )
        if self.pool == "map" and self.dim % self.pool_heads:
            raise ConfigError(f"map pooling splits dim over heads: {self.dim} is not divisible by {self.pool_heads}")

    def _check_stem(self) -> None:
        side, other = self.patch_hw
        if side != other or side < 2 or side & (side - 1):
            raise ConfigError(f'stem "conv" requires a patch_size of 2, 4, 8, 16 or so, got {self.patch_size}')
        if self.dim % (side // 2):
            raise ConfigError(f'stem "conv" doubles its channels up to dim: {self.dim} is not divisible by {side // 2}')

    @property
    def image_hw(self) -> tuple[int, int]:
        """The (height, width) of the image in pixels."""
        return pair("image_size", self.image_size)

    @property
    def patch_hw(self) -> tuple[int, int]:
        """The (height, width) of a patch in pixels."""
        return pair("patch_size", self.patch_size)

    @property
    def grid(self) -> tuple[int, int]:
        """The (rows, columns) of the patch grid."""
        (height, width), (patch_height, patch_width) = self.image_hw, self.patch_hw
        return height // patch_height, width // patch_width

    @property
    def num_patches(self) -> int:
        rows, columns = self.grid
        return rows * columns

    @property
    def stem_layers(self) -> tuple[tuple[int, int], ...]:
        """The channels after each halving of the stem "conv", doubling up to `dim`, and the residual layers there."""
        halvings = self.patch_hw[0].bit_length() - 1
        return tuple((self.dim >> left, 1 if left else 2) for left in reversed(range(halvings)))

    @property
    def pool_heads(self) -> int:
        """The number of heads in attention pooling."""
        return self.design.pool_heads or self.heads

    @property
    def num_pooled_tokens(self) -> int:
        """The number of tokens that attention pooling sees."""
        return self.num_patches + (self.num_prefix_tokens if self.design.pool_prefix else 0)

    @property
    def pooled_dim(self) -> int:
        """The width of the pooled vector, which is the input of the head."""
        return 2 * self.dim if self.pool == "cls_mean" else self.dim

    @property
    def has_class_token(self) -> bool:
        """Whether the model has a class token, which it has only if it pools by it."""
        return self.pool in ("cls", "cls_mean")

    @property
    def num_prefix_tokens(self) -> int:
        """The number of tokens before the patches: the class token, if any, and the registers."""
        return int(self.has_class_token) + self.design.registers


def pair(name: str, size: Size) -> tuple[int, int]:
    """Return `size` as (height, width), or raise a ConfigError that names the setting `name`."""
    sides = (size, size) if isinstance(size, int) else size
    if isinstance(sides, str | bytes) or not isinstance(sides, Sequence) or len(sides) != 2:
        raise ConfigError(f"{name} must be an integer or a (height, width) pair, got {size!r}")
    for side in sides:
        check_integer(name, side, minimum=1)
    return sides[0], sides[1]


def check_divisible(image_hw: tuple[int, int], patch_hw: tuple[int, int]) -> None:
    """Raise a ConfigError that names the nearest valid sizes if the patches do not tile the image."""
    for what, side, patch in zip(("height", "width"), image_hw, patch_hw, strict=True):
        if side % patch:
            below, above = side // patch * patch, (side // patch + 1) * patch
            nearest = f"{below} or {above}" if below else f"{above}"
            raise ConfigError(
                f"the image's {what}, {side}, must be divisible by the patch's {what}, {patch}; "
                f"the nearest such value is {nearest}"
            )
