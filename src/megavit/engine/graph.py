"""Build the OpenVINO graph of a trained MegaVit, from pixels of patches to features and logits.

The graph is built from the model's modules, not traced: norms and scales are fused into the projections, and the last
layer is computed only for the tokens that pooling needs. For the letters of the shapes see `megavit.model`.
"""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset15 as op
from torch import Tensor, nn

from megavit.config.preprocessing import Preprocessing
from megavit.engine.fuse_norms import Matrix, concatenate, fuse, get_affine, is_norm, slice_rows
from megavit.model.attention import Attention
from megavit.model.block import ParallelBlock, SerialBlock
from megavit.model.embedding.conv_stem import ConvLayer, ConvStem, ResidualLayer
from megavit.model.embedding.patch_embed import PatchEmbedding
from megavit.model.layers import BatchNorm
from megavit.model.mlp import FeedForward
from megavit.model.outputs.cosine_head import CosineHead
from megavit.model.outputs.split_linear import SplitLinear
from megavit.model.pooling import AttentionPool
from megavit.model.vit import MegaVit

Node = Any  # value of the graph; OpenVINO has no more specific type

Linear = Callable[[Node, Matrix], Node]  # maps an input and a matrix with its bias to their product

EPSILON = 1e-24
"""Smallest squared length that vectors are divided by, as in PyTorch."""
PIXELS, POSITIONS, COSINES, SINES = "pixels", "positions", "cosines", "sines"


def can_build(model: MegaVit) -> bool:
    """Return whether every layer of the model is supported; only zetascale's own block is not."""
    return model.config.design.block in ("parallel", "serial")


def linear(x: Node, matrix: Matrix) -> Node:
    """Return `x` (B, T, in) multiplied by a matrix, plus its bias."""
    weight, bias = matrix
    x = op.matmul(x, constant(weight), False, True)
    return x if bias is None else op.add(x, constant(bias))


def build(model: MegaVit, preprocessing: Preprocessing, linear: Linear = linear) -> ov.Model:
    """Return the graph of `model`, for any number of images of any one grid, with `linear` for the layers' projections.

    Its inputs are the patches' pixels (B, N, C · height · width), or for a stem of convolutions the images (B, C,
    height, width), as uint8 or, if resizing does not round, as floats; the positions (N, D); and for rotary positions,
    cosines and sines (T, K). Its outputs are pooled features (B, D or 2D) and logits (B, classes), or the features
    again if there is no head.
    """
    return _Builder(model, preprocessing, linear).build()


class _Builder:
    def __init__(self, model: MegaVit, preprocessing: Preprocessing, linear: Linear) -> None:
        self.model, self.config = model, model.config
        self.preprocessing = preprocessing
        self.linear = linear
        self.rotary = self.config.design.rotary
        self.rotation: tuple[Node, Node] | None = None

    def build(self) -> ov.Model:
        model, config = self.model, self.config
        is_stem = config.design.stem == "conv"
        shape = [-1, config.channels, -1, -1] if is_stem else [-1, -1, config.channels * math.prod(config.patch_hw)]
        floats = self.preprocessing.resize_dtype == "float32"
        pixels = op.parameter(shape, np.float32 if floats else np.uint8, name=PIXELS)
        positions = op.parameter([-1, config.dim], np.float32, name=POSITIONS)
        inputs = [pixels, positions]
        if self.rotary:
            cosines, sines = (op.parameter([-1, config.dim_head], np.float32, name=name) for name in (COSINES, SINES))
            inputs += [cosines, sines]
            self.rotation = cosines, sines
        x = op.add(self.stem(pixels) if is_stem else self.embed(pixels), positions)
        x = self.norm(self.with_prefix(x, pixels), model.pre_norm)
        *others, last = model.transformer.layers
        for layer in others:
            x = self.layer(x, layer, x)
        x = self.layer(x, last, self.select_pooled(x))
        x = self.pool(self.norm(x, model.norm) if config.design.final_norm == "tokens" else x)
        x = self.norm(x, model.norm) if config.design.final_norm == "pooled" else x
        results = [op.result(x), op.result(self.head(x))]
        return ov.Model(results, inputs, "megavit")  # pyrefly: ignore[no-matching-overload] - calls results nodes

    def head(self, x: Node) -> Node:
        """Return the logits of pooled features, or the features if there is no head."""
        head = self.model.mlp_head
        if isinstance(head, nn.Linear):
            return linear(x, fuse(head))
        if isinstance(head, CosineHead):
            projected = linear(x, fuse(head.projection))
            unit = op.normalize_l2(projected, constant_int([-1]), EPSILON, "max")
            return linear(unit, (head.weight, head.bias))
        if not isinstance(head, SplitLinear):
            return x
        ends = list(accumulate(head.parts))
        parts = (slice_rows(fuse(head), stop - rows, stop) for rows, stop in zip(head.parts, ends, strict=True))
        return op.concat([linear(x, part) for part in parts], -1)

    def embed(self, pixels: Node) -> Node:
        """Return the tokens of the patches; without a norm between, the projection normalizes the pixels too."""
        part = self.model.patch_embedding
        assert isinstance(part, PatchEmbedding)
        projection = fuse(part.projection, part.pixel_norm)
        area = math.prod(self.config.patch_hw)
        mean, std = (moment.repeat_interleave(area) for moment in self.moments)
        x = op.convert(pixels, np.float32)
        if is_norm(part.pixel_norm):
            x = op.multiply(op.subtract(x, constant(mean * 255)), constant(1 / (255 * std)))
        else:
            weight, bias = projection
            shift = -(weight @ (mean / std))
            projection = weight / (255 * std), shift if bias is None else bias + shift
        return self.norm(linear(self.standardize(x, part.pixel_norm), projection), part.norm)

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """The mean and standard deviation of each channel of the images."""
        mean, std = self.preprocessing.mean, self.preprocessing.std
        return per_channel(mean, self.config.channels), per_channel(std, self.config.channels)

    def stem(self, pixels: Node) -> Node:
        """Return the tokens of images by the stem of convolutions."""
        part = self.model.patch_embedding
        assert isinstance(part, ConvStem)
        mean, std = (moment.view(1, -1, 1, 1) for moment in self.moments)
        x = op.multiply(op.subtract(op.convert(pixels, np.float32), constant(mean * 255)), constant(1 / (255 * std)))
        for layer in part.layers:
            if isinstance(layer, ResidualLayer):
                x = op.relu(op.add(x, self.convolution(self.convolution(x, layer.first), layer.second)))
            else:
                assert isinstance(layer, ConvLayer)
                x = self.convolution(x, layer)
        tokens = op.transpose(op.reshape(x, constant_int([0, 0, -1]), True), constant_int([0, 2, 1]))
        return linear(tokens, fuse(part.projection))

    def convolution(self, x: Node, layer: ConvLayer) -> Node:
        """Return a layer's output (B, D, H', W'); a BatchNorm is fused into the kernel."""
        kernel, shift, normed = layer.kernel.detach(), None, not isinstance(layer.norm, BatchNorm)
        if not normed:
            factor, shift = get_affine(layer.norm)
            assert factor is not None and shift is not None
            kernel, shift = kernel.double() * factor.view(-1, 1, 1, 1), shift.view(1, -1, 1, 1)
        x = op.convolution(x, constant(kernel), [layer.stride] * 2, [1, 1], [1, 1], [1, 1])
        if shift is not None:
            x = op.add(x, constant(shift))
        if normed:
            x = self.norm(op.transpose(x, constant_int([0, 2, 3, 1])), layer.norm)
            x = op.transpose(x, constant_int([0, 3, 1, 2]))
        return op.relu(x) if layer.relu else x

    def with_prefix(self, patches: Node, pixels: Node) -> Node:
        if not self.config.num_prefix_tokens:
            return patches
        empty = self.model.norm.weight.detach().new_zeros(1, 0, self.config.dim)
        tokens = self.model.prefix_tokens(empty)
        batch = op.gather(op.shape_of(pixels), constant_int([0]), constant_int(0))
        shape = op.concat([batch, constant_int(tokens.shape[1:])], 0)
        return op.concat([op.broadcast(constant(tokens), shape), patches], 1)

    def select_pooled(self, x: Node, axis: int = 1) -> Node:
        """Return the tokens along `axis` that pooling needs: the class token, the patches, both or all tokens."""
        pool, design, prefix = self.config.pool, self.config.design, self.config.num_prefix_tokens
        if pool == "cls":
            return between(x, 0, 1, axis)
        if (pool == "map" and design.pool_prefix) or not prefix or (pool == "cls_mean" and not design.registers):
            return x
        patches = between(x, prefix, None, axis)
        return op.concat([between(x, 0, 1, axis), patches], axis) if pool == "cls_mean" else patches

    def layer(self, x: Node, layer: nn.Module, queries: Node) -> Node:
        """Return the layer's output for the tokens `queries`, which are `x` or a subset."""
        if isinstance(layer, ParallelBlock):
            normed = self.standardize(x, layer.norm)
            selected = normed if queries is x else self.standardize(queries, layer.norm)
            attended = self.attention(normed, selected, layer.attention, layer.norm, layer.attention_scale)
            hidden = self.feed_forward(selected, layer.mlp, layer.norm, layer.mlp_scale)
            return op.add(op.add(queries, attended), hidden)
        assert isinstance(layer, SerialBlock)
        normed = self.standardize(x, layer.attention_norm)
        selected = normed if queries is x else self.standardize(queries, layer.attention_norm)
        attended = self.attention(normed, selected, layer.attention, layer.attention_norm, layer.attention_scale)
        x = op.add(queries, attended)
        normed = self.standardize(x, layer.mlp_norm)
        return op.add(x, self.feed_forward(normed, layer.mlp, layer.mlp_norm, layer.mlp_scale))

    def attention(self, x: Node, queries: Node, part: Attention, norm: nn.Module, scale: nn.Module) -> Node:
        """Return the attention output of the tokens `queries` over `x`, both standardized by `norm`."""
        inner, width = part.heads * self.config.dim_head, self.config.dim_head
        normed = is_norm(part.query_norm)
        to_qkv, temperature = fuse(part.to_qkv, norm), width**-0.5
        to_query = slice_rows(to_qkv, 0, inner, 1.0 if normed else temperature)
        to_key_value = slice_rows(to_qkv, inner, 3 * inner)
        if queries is x:
            parts = op.split(self.linear(x, concatenate(to_query, to_key_value)), constant_int(2), 3)
            query, key, value = (self.heads(output, part.heads) for output in parts.outputs())
        else:
            parts = op.split(self.linear(x, to_key_value), constant_int(2), 2)
            key, value = (self.heads(output, part.heads) for output in parts.outputs())
            query = self.heads(self.linear(queries, to_query), part.heads)
        if normed:
            query, key = self.norm(query, part.query_norm, temperature), self.norm(key, part.key_norm)
        if self.rotation is not None:
            query, key = self.rotate(query, queries, x), self.rotate(key, x, x)
        mixed = self.mix(query, key, value, inner)
        return self.linear(self.standardize(mixed, part.out_norm), fuse(part.out, part.out_norm, scale))

    def mix(self, query: Node, key: Node, value: Node, inner: int) -> Node:
        """Return softmax(Q Kᵀ) V of (B, H, T, K) inputs, as (B, T, H · K)."""
        weights = op.softmax(op.matmul(query, key, False, True), -1)
        mixed = op.transpose(op.matmul(weights, value, False, False), constant_int([0, 2, 1, 3]))
        return op.reshape(mixed, constant_int([0, -1, inner]), True)

    def rotate(self, x: Node, tokens: Node, all_tokens: Node) -> Node:
        """Rotate `x` (B, H, T, K) by the angles of its tokens, which are all tokens or those that pooling needs."""
        assert self.rotation is not None
        cosines, sines = self.rotation
        if tokens is not all_tokens:
            cosines, sines = (self.select_pooled(angles, axis=0) for angles in self.rotation)
        half = self.config.dim_head // 2
        rotated = op.concat([op.negative(between(x, half, None, axis=3)), between(x, 0, half, axis=3)], 3)
        return op.add(op.multiply(x, cosines), op.multiply(rotated, sines))

    def feed_forward(self, x: Node, part: FeedForward, norm: nn.Module, scale: nn.Module) -> Node:
        into = fuse(part.into, norm)
        if part.mlp == "swiglu":
            width = self.config.mlp_dim
            gate, value = (self.linear(x, slice_rows(into, i * width, (i + 1) * width)) for i in (0, 1))
            hidden = op.multiply(op.swish(gate), value)
        else:
            hidden = activate(self.linear(x, into), part.mlp)
        return self.linear(self.standardize(hidden, part.out_norm), fuse(part.out, part.out_norm, scale))

    def pool(self, x: Node) -> Node:
        """Pool (B, tokens that pooling needs, D) to (B, D), or (B, 2D) for the class token and the mean."""
        if self.config.pool == "cls":
            return op.squeeze(x, constant_int([1]))
        if self.config.pool == "mean":
            return op.reduce_mean(x, constant_int([1]), False)
        if self.config.pool == "cls_mean":
            class_token, patches = op.squeeze(between(x, 0, 1), constant_int([1])), between(x, 1, None)
            return op.concat([class_token, op.reduce_mean(patches, constant_int([1]), False)], 1)
        part = self.model.pool
        assert isinstance(part, AttentionPool)
        dim = self.config.dim
        queries = (part.to_query(part.query) * (dim // part.heads) ** -0.5).view(1, part.heads, 1, -1)
        to_key_value = fuse(part.to_key_value)
        key, value = (
            self.heads(linear(x, slice_rows(to_key_value, i * dim, (i + 1) * dim)), part.heads) for i in (0, 1)
        )
        x = op.squeeze(linear(self.mix(constant(queries), key, value, dim), fuse(part.out)), constant_int([1]))
        kind = self.config.design.mlp
        hidden = linear(self.standardize(x, part.norm), fuse(part.mlp_into, part.norm))
        hidden = activate(hidden, kind if kind != "swiglu" else "gelu")
        return op.add(x, linear(hidden, fuse(part.mlp_out)))

    def heads(self, x: Node, heads: int) -> Node:
        return op.transpose(op.reshape(x, constant_int([0, 0, heads, -1]), True), constant_int([0, 2, 1, 3]))

    def standardize(self, x: Node, norm: nn.Module) -> Node:
        """Apply a norm without its affine parameters, which are fused into the next projection."""
        if not is_norm(norm) or isinstance(norm, BatchNorm):
            return x
        eps = self.config.design.norm_eps
        if isinstance(norm, nn.LayerNorm):
            return op.mvn(x, constant_int([-1]), True, eps, "INSIDE_SQRT")
        mean_square = op.reduce_mean(op.multiply(x, x), constant_int([-1]), True)
        return op.divide(x, op.sqrt(op.add(mean_square, np.float32(eps))))

    def norm(self, x: Node, norm: nn.Module, factor: float = 1.0) -> Node:
        """Apply a norm with its affine parameters multiplied by `factor`."""
        if not is_norm(norm):
            return x
        weight, bias = get_affine(norm)
        x = self.standardize(x, norm)
        x = op.multiply(x, constant(weight * factor)) if weight is not None else x
        return op.add(x, constant(bias * factor)) if bias is not None else x


def per_channel(value: float | tuple[float, ...], channels: int) -> Tensor:
    """Return one value per channel, (channels,) float64."""
    return torch.tensor(value, dtype=torch.float64).expand(channels)


def activate(x: Node, kind: str) -> Node:
    match kind:
        case "gelu":
            return op.gelu(x, "ERF")
        case "gelu_tanh":
            return op.gelu(x, "TANH")
        case "quick_gelu":
            return op.swish(x, np.float32(1.702))
        case "relu2":
            positive = op.relu(x)
            return op.multiply(positive, positive)
        case _:
            raise AssertionError(kind)


def between(x: Node, start: int, stop: int | None, axis: int = 1) -> Node:
    """Return `x[start:stop]` along `axis`."""
    end = np.iinfo(np.int64).max if stop is None else stop
    return op.slice(x, constant_int([start]), constant_int([end]), constant_int([1]), constant_int([axis]))


def constant(values: Tensor) -> Node:
    return op.constant(np.ascontiguousarray(values.detach().cpu().numpy(), dtype=np.float32))


def constant_int(values: int | Sequence[int]) -> Node:
    return op.constant(np.array(values, dtype=np.int64))
