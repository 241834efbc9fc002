"""What a step keeps of its images for the way back, by formula, in bytes.

The terms are those of arXiv 2205.05198, section 4, for this model's blocks: a norm keeps its input, a product of
matrices its input, attention its queries, keys, values and answer (its weights are computed again, arXiv 2205.14135),
the MLP's non-linearity its input.
"""

from dataclasses import dataclass

from megavit.config.vit import ViTConfig

FLOAT32, BFLOAT16 = 4, 2
# Hidden layers that the MLP keeps: the non-linearity's inputs, and its answer, which the next product needs.
HIDDEN = {"gelu": 2, "gelu_tanh": 2, "relu2": 2, "quick_gelu": 3, "swiglu": 4}
# Of an attention's row, the softmax's sum, float32.
SOFTMAX_ROW = 4
# Tokens; that of `megavit.model.attention`, which imports PyTorch.
MAX_EAGER_TOKENS = 256


@dataclass(frozen=True)
class Numerics:
    """In which types a step computes.

    Attributes:
        weight: bytes of a weight as the forward pass sees it, and so of a channel of the residual stream.
        autocast: whether products of matrices cast to bfloat16 as they go.
        processor: whether on one, and not on a GPU: there autocast leaves norms in the type of their input, and
            attention in bfloat16 keeps its weights for few tokens (`megavit.model.attention`).
    """

    weight: int = FLOAT32
    autocast: bool = False
    processor: bool = False

    @property
    def product(self) -> int:
        """Bytes of a number in a product of matrices."""
        return BFLOAT16 if self.autocast else self.weight

    @property
    def norm(self) -> int:
        """Of a norm of the residual stream."""
        return FLOAT32 if self.autocast and not self.processor else self.weight

    @property
    def casts_heads(self) -> bool:
        """Whether queries and keys are cast for their norms."""
        return self.autocast and not self.processor


@dataclass(frozen=True)
class Kept:
    """Of one image, on one of the ranks that share each block: bytes.

    Attributes:
        before, after: kept of what comes before the first block, and after the last.
        stream: the tokens between two blocks, which are all that is kept of a block with gradient checkpointing.
        block: what a block keeps.
        forward: at most, what a block's pass needs beside.
        unkept: the same where nothing of the block is kept.
        backward: at most, what a block's way back needs beside.
        recomputed: what a block keeps on the way back, beside its input, with gradient checkpointing.
        cast: of the image, where FSDP2 casts what the forward pass is given.
    """

    before: int
    after: int
    stream: int
    block: int
    forward: int
    unkept: int
    backward: int
    recomputed: int
    cast: int


def kept(config: ViTConfig, numerics: Numerics, tensor: int = 1) -> Kept:
    """Those of one image, without dropout; `tensor` ranks share the heads and the MLP of each block."""
    design, product, norm = config.design, numerics.product, numerics.norm
    tokens, dim = config.num_patches + config.num_prefix_tokens, config.dim
    heads, hidden = config.heads // tensor, config.mlp_dim // tensor
    inner = heads * config.dim_head
    norms = 2 if design.block == "serial" else 1
    # Autocast casts the norm's answer for each product that takes it.
    normed = dim * product * (2 if numerics.autocast else norms)
    attention = 4 * inner * product
    if design.qk_norm:
        # Normed queries and keys, and the answer in both orders of its axes; each row's mean and deviation.
        attention += 3 * inner * product + 2 * heads * _row(FLOAT32 if numerics.casts_heads else product)
        attention += 2 * inner * FLOAT32 if numerics.casts_heads else 0
    explicit = numerics.processor and product == BFLOAT16 and tokens <= MAX_EAGER_TOKENS
    weights = heads * tokens * product if explicit else SOFTMAX_ROW * heads
    scales = 0 if design.layer_scale is None else 2 * dim * product
    mlp = HIDDEN[design.mlp] * hidden * product
    stream = dim * numerics.weight
    back = hidden * product + stream + (dim * product if numerics.autocast else 0)
    if explicit:  # by then the MLP's is gone
        back = max(back, 2 * heads * tokens * product + stream - mlp)
    seen_height, seen_width = (side + 2 * design.patch_overlap for side in config.patch_hw)
    pixels = config.num_patches * config.channels * seen_height * seen_width
    image = config.channels * config.image_hw[0] * config.image_hw[1]
    block = norms * (dim * norm + _row(norm)) + normed + attention + weights + mlp + scales
    return Kept(
        before=pixels * product,
        after=tokens * (dim * norm + _row(norm)) + _pooled(config, numerics, tokens),
        stream=tokens * stream,
        block=tokens * block,
        forward=tokens * 3 * dim * product,
        unkept=tokens * (HIDDEN[design.mlp] * hidden * product + normed + dim * (norm + product) + stream),
        backward=tokens * back,
        # A norm that needs no cast keeps the block's input itself.
        recomputed=tokens * (block - (dim * norm if norm == numerics.weight else 0)),
        cast=image * BFLOAT16 if numerics.weight == BFLOAT16 else 0,
    )


def _row(width: int) -> int:
    """A norm's mean and deviation of a row."""
    return 2 * width


def _pooled(config: ViTConfig, numerics: Numerics, tokens: int) -> int:
    dim, product = config.dim, numerics.product
    found = config.num_classes * (product + 2 * FLOAT32)
    if config.pool == "map":
        keys_and_values = 2 * config.num_pooled_tokens * dim * product
        return found + tokens * dim * product + keys_and_values + (4 * dim + 2 * config.mlp_dim) * product
    if config.pool == "cls" and not numerics.autocast:
        return found + tokens * dim * product  # the class token is a view of all
    return found + dim * product
