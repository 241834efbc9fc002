"""Compute the bytes of activations that a training step saves for the backward pass, by formula.

As in arXiv 2205.05198, section 4: a norm saves its input, a matrix product its input, attention its queries, keys,
values and output (attention weights are recomputed, arXiv 2205.14135), and the MLP's activation function its input.
"""

from dataclasses import dataclass

from megavit.config.vit import ViTConfig
from megavit.model.attention import MAX_EAGER_TOKENS

FLOAT32, BFLOAT16 = 4, 2
# Number of hidden tensors that the MLP saves: inputs and output of the activation function.
SAVED_HIDDEN = {"gelu": 2, "gelu_tanh": 2, "relu2": 2, "quick_gelu": 3, "swiglu": 4}
# Bytes of the softmax statistic of a row of attention, float32.
SOFTMAX_ROW = 4


@dataclass(frozen=True)
class Numerics:
    """The number formats of a step.

    Attributes:
        weight: bytes of a weight in the forward pass, and of a channel of the residual stream.
        autocast: whether matrix products cast their inputs to bfloat16.
        processor: whether the step runs on a CPU, where autocast keeps norms in their input's type, and bfloat16
            attention saves its weights if there are few tokens (`megavit.model.attention`).
    """

    weight: int = FLOAT32
    autocast: bool = False
    processor: bool = False

    @property
    def product(self) -> int:
        """Bytes of a number in a matrix product."""
        return BFLOAT16 if self.autocast else self.weight

    @property
    def norm(self) -> int:
        """Bytes of a number in a norm of the residual stream."""
        return FLOAT32 if self.autocast and not self.processor else self.weight

    @property
    def casts_heads(self) -> bool:
        """Whether queries and keys are cast for their norms."""
        return self.autocast and not self.processor


@dataclass(frozen=True)
class SavedActivations:
    """The activation memory of one image on one tensor-parallel rank, in bytes.

    Attributes:
        before: saved before the first block.
        after: saved after the last block.
        stream: tokens between two blocks, all that gradient checkpointing saves of a block.
        block: saved by a block.
        last: saved by the last block, which computes only the class token if that is pooled (`MegaVit.pooled`).
        forward: additional peak of a block's forward pass.
        forward_unsaved: additional peak of a block's forward pass if it saves nothing.
        backward: additional peak of a block's backward pass.
        recomputed: saved by a block in the backward pass with gradient checkpointing, except its input.
        cast: copy of the image if FSDP2 casts the inputs of the forward pass.
    """

    before: int
    after: int
    stream: int
    block: int
    last: int
    forward: int
    forward_unsaved: int
    backward: int
    recomputed: int
    cast: int

    def of_blocks(self, depth: int, gradient_checkpointing: bool) -> int:
        """Return what all blocks of an unsharded model save."""
        return depth * self.stream if gradient_checkpointing else (depth - 1) * self.block + self.last


def compute_saved_activations(config: ViTConfig, numerics: Numerics, tensor: int = 1) -> SavedActivations:
    """Return the activation memory of one image, without dropout, with `tensor` tensor-parallel ranks."""
    design, product, norm = config.design, numerics.product, numerics.norm
    tokens, dim = config.num_patches + config.num_prefix_tokens, config.dim
    heads, hidden = config.heads // tensor, config.mlp_dim // tensor
    inner = heads * config.dim_head
    norms = 2 if design.block == "serial" else 1
    # Autocast casts the norm's output for each product.
    normed = dim * product * (2 if numerics.autocast else norms)
    projected, attended = 3 * inner * product, inner * product
    if design.qk_norm:
        # Normalized queries and keys, each row's statistics, and the output in both orders of its axes.
        projected += 2 * inner * product + 2 * heads * _row_statistics(FLOAT32 if numerics.casts_heads else product)
        projected += 2 * inner * FLOAT32 if numerics.casts_heads else 0
        attended += inner * product
    eager = numerics.processor and product == BFLOAT16 and tokens <= MAX_EAGER_TOKENS
    weights = heads * tokens * product if eager else SOFTMAX_ROW * heads
    scales = 0 if design.layer_scale is None else 2 * dim * product
    mlp = SAVED_HIDDEN[design.mlp] * hidden * product
    stream = dim * numerics.weight
    backward = hidden * product + stream + (dim * product if numerics.autocast else 0)
    if eager:  # the MLP's activations are freed by then
        backward = max(backward, 2 * heads * tokens * product + stream - mlp)
    image = config.channels * config.image_hw[0] * config.image_hw[1]
    block = norms * (dim * norm + _row_statistics(norm)) + normed + projected + attended + weights + mlp + scales
    # What the keys and values of all tokens need, beside what only the outputs do.
    for_all = dim * norm + _row_statistics(norm) + dim * product + projected
    only_class = config.pool == "cls" and design.norm != "batch"
    return SavedActivations(
        before=_embedding(config, numerics),
        after=tokens * (dim * norm + _row_statistics(norm)) + _head(config, numerics, tokens),
        stream=tokens * stream,
        block=tokens * block,
        last=tokens * for_all + (block - for_all) if only_class else tokens * block,
        forward=tokens * 3 * dim * product,
        forward_unsaved=tokens * (mlp + normed + dim * (norm + product) + stream),
        backward=tokens * backward,
        # A norm without a cast saves the block's input itself.
        recomputed=tokens * (block - (dim * norm if norm == numerics.weight else 0)),
        cast=image * BFLOAT16 if numerics.weight == BFLOAT16 else 0,
    )


def activation_memory(config: ViTConfig, gradient_checkpointing: bool = False) -> int:
    """Return the bytes of activations per image at the peak of a step in float32, without dropout.

    With gradient checkpointing, each block saves its input, and only one block at a time saves everything.
    """
    saved = compute_saved_activations(config, Numerics())
    trunk = saved.before + saved.of_blocks(config.depth, gradient_checkpointing)
    recomputed = saved.recomputed if gradient_checkpointing else 0
    return trunk + max(saved.after, recomputed + saved.backward)


def inference_memory(config: ViTConfig) -> int:
    """Return about the bytes of one image at the peak of a float32 forward pass that saves nothing.

    Of the image there are three copies while it is normalized, and of a convolution's output five.
    """
    saved = compute_saved_activations(config, Numerics())
    image = FLOAT32 * config.channels * config.image_hw[0] * config.image_hw[1]
    widths = [width for width, _ in config.stem_layers] if config.design.stem == "conv" else []
    stem = max((4**left * width for left, width in enumerate(reversed(widths))), default=0)
    return max(
        3 * image, 2 * image + 5 * FLOAT32 * config.num_patches * stem, image + saved.stream + saved.forward_unsaved
    )


def _embedding(config: ViTConfig, numerics: Numerics) -> int:
    """Return the bytes that the patch embedding saves: its input, and for a stem also those of its norms and ReLUs."""
    pixels = config.channels * config.image_hw[0] * config.image_hw[1]
    saved = pixels * numerics.product
    if config.design.stem == "conv":
        relu = numerics.norm + (numerics.product if numerics.casts_heads else 0)
        for left, (width, residual) in zip(reversed(range(len(config.stem_layers))), config.stem_layers, strict=True):
            count = 4**left * config.num_patches * (1 + 2 * residual)
            saved += count * (width * (numerics.product + relu) + _row_statistics(numerics.norm))
    return saved


def _row_statistics(width: int) -> int:
    return 2 * width


def _head(config: ViTConfig, numerics: Numerics, tokens: int) -> int:
    dim, product = config.dim, numerics.product
    logits = config.num_classes * (product + 2 * FLOAT32)
    if config.pool == "map":
        keys_and_values = 2 * config.num_pooled_tokens * dim * product
        return logits + tokens * dim * product + keys_and_values + (4 * dim + 2 * config.mlp_dim) * product
    if config.pool == "cls" and not numerics.autocast:
        return logits + tokens * dim * product  # the class token is a view of all tokens
    return logits + config.pooled_dim * product
