"""The text towers of CLIP (arXiv 2103.00020) and SigLIP (arXiv 2303.15343)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from megavit.model.mlp import ACTIVATIONS


@dataclass(frozen=True, kw_only=True)
class TextTowerConfig:
    """The size of a text tower.

    Attributes:
        vocabulary, context: number of different tokens, and of tokens in a text at most.
        dim, depth, heads, mlp_dim: as in `megavit.ViTConfig`.
        embedding_dim: width of a text's embedding.
        activation: activation of the MLP, by its name in `megavit.Design`.
        norm_eps: epsilon of the norms.
        causal: whether a token sees only those before it, and the text's embedding is that of its end, as in CLIP; else
            all texts are padded to `context` tokens, and the last one is used, as in SigLIP.
    """

    vocabulary: int
    context: int
    dim: int
    depth: int
    heads: int
    mlp_dim: int
    embedding_dim: int
    activation: str
    norm_eps: float
    causal: bool


class TextTower(nn.Module):
    """A text transformer that maps the tokens (T,) of one text, int64, to its embedding (embedding_dim,)."""

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        self.causal = config.causal
        self.tokens = nn.Embedding(config.vocabulary, config.dim)
        self.positions = nn.Embedding(config.context, config.dim)
        layer = nn.TransformerEncoderLayer(
            config.dim,
            config.heads,
            config.mlp_dim,
            dropout=0.0,
            activation=ACTIVATIONS[config.activation],
            layer_norm_eps=config.norm_eps,
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(config.dim, config.norm_eps)
        self.transformer = nn.TransformerEncoder(layer, config.depth, norm, enable_nested_tensor=False)
        self.projection = nn.Linear(config.dim, config.embedding_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions.weight[: len(tokens)]
        mask = nn.Transformer.generate_square_subsequent_mask(len(tokens)) if self.causal else None
        return self.projection(self.transformer(x[None], mask, is_causal=self.causal)[0, -1])

    @torch.no_grad()
    def embed(self, texts: list[list[int]]) -> Tensor:
        """Return the embeddings (N, embedding_dim) of texts, given by their tokens, with length 1."""
        return nn.functional.normalize(torch.stack([self(torch.tensor(tokens)) for tokens in texts]), dim=1)
