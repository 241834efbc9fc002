"""What a model computes, by formula. Letters of the shapes: see `megavit.model`."""

from megavit.config.vit import ViTConfig


def forward_flops(config: ViTConfig, grid: tuple[int, int] | None = None) -> int:
    """Floating point operations of one image's way through the model: two for each multiplication of matrices.

    Norms, activations and the softmax are left out, as is usual (arXiv 2204.02311, appendix B). Nothing is saved on
    tokens that pooling does not need.

    Args:
        grid: (rows, columns) of patches; those of the model's own image size where it is None.
    """
    rows, columns = grid or config.grid
    patches = rows * columns
    tokens = patches + config.num_prefix_tokens
    dim, inner, hidden = config.dim, config.heads * config.dim_head, config.mlp_dim
    seen_height, seen_width = (side + 2 * config.design.patch_overlap for side in config.patch_hw)
    embedding = patches * config.channels * seen_height * seen_width * dim
    attention = tokens * 4 * dim * inner + 2 * tokens**2 * inner
    mlp = tokens * (3 if config.design.mlp == "swiglu" else 2) * dim * hidden
    seen = tokens if config.design.pool_prefix else patches
    pooling = dim**2 * (2 * seen + 2) + 2 * seen * dim + 2 * dim * hidden if config.pool == "map" else 0
    head = dim * config.num_classes
    return 2 * (embedding + config.depth * (attention + mlp) + pooling + head)


def training_flops(config: ViTConfig, grid: tuple[int, int] | None = None) -> int:
    """Those of one image's training step: the way back costs twice the way there (arXiv 2204.02311, appendix B)."""
    return 3 * forward_flops(config, grid)
