"""zetascale's `MegaVit` by its arithmetic and with its names: zetascale itself cannot be installed beside us.

Pooled by the class token, without dropout. One norm before every layer and after the last takes the stream's place;
keys and values are normalized per head.
"""

import torch
from torch import Tensor, nn

from megavit.config.vit import Size, pair


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.norm_k, self.norm_v = nn.LayerNorm(dim_head), nn.LayerNorm(dim_head)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.to_qkv(self.norm(x)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in qkv)
        scores = query @ self.norm_k(key).mT * key.shape[-1] ** -0.5
        return self.to_out((scores.softmax(dim=-1) @ self.norm_v(value)).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, dim: int, mlp_dim: int) -> None:
        super().__init__()
        # The identity is where their dropout is.
        self.net = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, mlp_dim), nn.GELU(), nn.Identity(), nn.Linear(mlp_dim, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Layer(nn.Module):
    def __init__(self, attention: Attention, mlp: FeedForward) -> None:
        super().__init__()
        self.add_module("0", attention)
        self.add_module("1", mlp)

    def forward(self, x: Tensor) -> Tensor:
        attention, mlp = self.children()
        return x + attention(x) + mlp(x)


class MegaVit(nn.Module):
    """images (B, channels, height, width) to logits (B, num_classes)."""

    def __init__(
        self,
        *,
        image_size: Size,
        patch_size: Size,
        num_classes: int,
        dim: int,
        depth: int,
        heads: int,
        mlp_dim: int,
        channels: int = 3,
        dim_head: int = 64,
    ) -> None:
        super().__init__()
        (height, width), self.patch_hw = pair("image_size", image_size), pair("patch_size", patch_size)
        rows, columns = self.patch_hw
        pixels, patches = rows * columns * channels, (height // rows) * (width // columns)
        self.to_patch_embedding = nn.Sequential(
            nn.Identity(), nn.LayerNorm(pixels), nn.Linear(pixels, dim), nn.LayerNorm(dim)
        )
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embedding = nn.Parameter(torch.randn(1, patches + 1, dim))
        layers = [Layer(Attention(dim, heads, dim_head), FeedForward(dim, mlp_dim)) for _ in range(depth)]
        self.transformer = nn.ModuleDict({"norm": nn.LayerNorm(dim), "layers": nn.ModuleList(layers)})
        self.mlp_head = nn.Linear(dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = self.patch_hw
        pixels = images.unfold(2, rows, rows).unfold(3, columns, columns).permute(0, 2, 3, 4, 5, 1)
        patches = self.to_patch_embedding(pixels.flatten(3).flatten(1, 2))
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embedding
        for layer in self.transformer["layers"].children():
            x = layer(self.transformer["norm"](x))
        return self.mlp_head(self.transformer["norm"](x)[:, 0])
