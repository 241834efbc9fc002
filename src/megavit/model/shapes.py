"""The shape of every parameter of a model, by formula: no model is built for it, and no PyTorch is needed."""

from megavit.config.vit import ViTConfig

Shape = tuple[int, ...]
Shapes = dict[str, Shape]


def parameter_shapes(config: ViTConfig) -> Shapes:
    """Name -> shape of each parameter of `MegaVit.from_config(config)`, in its order."""
    design, dim = config.design, config.dim
    seen_height, seen_width = (side + 2 * design.patch_overlap for side in config.patch_hw)
    pixels = config.channels * seen_height * seen_width
    found: Shapes = {}
    if design.patch_norm:
        found |= _norm("patch_embedding.pixel_norm", config, pixels)
    found |= _linear("patch_embedding.projection", pixels, dim)
    if design.patch_norm:
        found |= _norm("patch_embedding.norm", config, dim)
    if design.positions.startswith("learned"):
        place = "positions.learned.table" if design.rotary else "positions.table"
        found[place] = (config.num_patches, dim)
    found |= _prefix(config)
    if design.pre_norm:
        found |= _norm("pre_norm", config, dim)
    block = block_shapes(config)
    for layer in range(config.depth):
        found |= {f"transformer.layers.{layer}.{name}": shape for name, shape in block.items()}
    found |= _norm("norm", config, dim)
    if config.pool == "map":
        found |= _pool(config)
    if config.num_classes:
        found |= _linear("mlp_head", dim, config.num_classes)
    return found


def block_shapes(config: ViTConfig) -> Shapes:
    """Those of one layer, by their names within it."""
    design, dim, inner = config.design, config.dim, config.heads * config.dim_head
    if design.block == "zeta":
        return (
            _norm("stream_norm", config, dim)
            | _norm("attention_norm", config, dim)
            | {"attention.to_qkv.weight": (3 * inner, dim)}
            | _norm("attention.key_norm", config, config.dim_head)
            | _norm("attention.value_norm", config, config.dim_head)
            | _linear("attention.out", inner, dim)
            | _norm("mlp_norm", config, dim)
            | _mlp(config)
        )
    serial = design.block == "serial"
    scaled = design.layer_scale is not None
    found = _norm("attention_norm" if serial else "norm", config, dim)
    found |= _linear("attention.to_qkv", dim, 3 * inner, bias=design.qkv_bias)
    if design.qk_norm:
        found |= _norm("attention.query_norm", config, config.dim_head)
        found |= _norm("attention.key_norm", config, config.dim_head)
    if design.attention_out_norm:
        found |= _norm("attention.out_norm", config, inner)
    found |= _linear("attention.out", inner, dim)
    if scaled:
        found["attention_scale.factor"] = (dim,)
    if serial:
        found |= _norm("mlp_norm", config, dim)
    found |= _mlp(config)
    if scaled:
        found["mlp_scale.factor"] = (dim,)
    return found


def parameter_count(config: ViTConfig) -> int:
    return sum(elements(shape) for shape in parameter_shapes(config).values())


def elements(shape: Shape) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def _mlp(config: ViTConfig) -> Shapes:
    hidden = config.mlp_dim
    into = _linear("mlp.into", config.dim, hidden * (2 if config.design.mlp == "swiglu" else 1))
    norm = _norm("mlp.out_norm", config, hidden) if config.design.mlp_out_norm else {}
    return into | norm | _linear("mlp.out", hidden, config.dim)


def _prefix(config: ViTConfig) -> Shapes:
    design, dim = config.design, config.dim
    placed = design.prefix_positions if design.positions.startswith("learned") else "none"
    found: Shapes = {}
    if config.pool == "cls":
        found["prefix_tokens.class_token"] = (dim,)
        if placed != "none":
            found["prefix_tokens.class_position"] = (dim,)
    if design.registers:
        found["prefix_tokens.registers"] = (design.registers, dim)
        if placed == "all":
            found["prefix_tokens.register_positions"] = (design.registers, dim)
    return found


def _pool(config: ViTConfig) -> Shapes:
    dim, hidden = config.dim, config.mlp_dim
    return (
        {"pool.query": (dim,)}
        | _linear("pool.to_query", dim, dim)
        | _linear("pool.to_key_value", dim, 2 * dim)
        | _linear("pool.out", dim, dim)
        | _norm("pool.norm", config, dim)
        | _linear("pool.mlp_into", dim, hidden)
        | _linear("pool.mlp_out", hidden, dim)
    )


def _linear(place: str, inputs: int, outputs: int, *, bias: bool = True) -> Shapes:
    weight: Shapes = {f"{place}.weight": (outputs, inputs)}
    return weight | {f"{place}.bias": (outputs,)} if bias else weight


def _norm(place: str, config: ViTConfig, width: int) -> Shapes:
    biased = config.design.norm == "layer" and config.design.norm_bias
    weight: Shapes = {f"{place}.weight": (width,)}
    return weight | {f"{place}.bias": (width,)} if biased else weight
