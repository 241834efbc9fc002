"""Measure how far embeddings are from a standard normal distribution, by random projections (arXiv 2511.08544).

A distribution is normal in all dimensions if it is in every direction (section 4.1). In one direction the empirical
characteristic function is compared with that of a normal distribution, as Epps and Pulley do (section 4.2).
"""

import math

import torch
from torch import Tensor

from megavit.distributed.context import ParallelContext

# The characteristic functions are compared from 0 to MAX_FREQUENCY at NUM_FREQUENCIES places; they are symmetric.
MAX_FREQUENCY, NUM_FREQUENCIES = 3.0, 17


def distance_from_normal(embeddings: Tensor, num_directions: int, parallel: ParallelContext | None = None) -> Tensor:
    """Return the mean Epps-Pulley statistic of embeddings (..., N, D) in directions drawn from the global generator.

    It is the integral of |φ(t) − exp(−t²/2)|² exp(−t²/2) over t, times N, for the empirical φ of N projections: about 1
    for normal embeddings, and 0.4 N if all are 0.

    With `parallel`, the embeddings are an equal part of those of all processes, N in total, whose statistic is returned
    in each; the directions are those that the main process draws.
    """
    parallel = parallel or ParallelContext()
    directions = parallel.broadcast(torch.randn(embeddings.shape[-1], num_directions).to(embeddings.device))
    directions = directions / directions.norm(dim=0)
    t = torch.linspace(0, MAX_FREQUENCY, NUM_FREQUENCIES, device=embeddings.device)
    expected = (-t.square() / 2).exp()
    angles = (embeddings.float() @ directions)[..., None] * t  # (..., N, directions, frequencies)
    own = torch.stack([angles.cos().mean(dim=-3), angles.sin().mean(dim=-3)])
    real, imaginary = parallel.all_reduce_mean_with_gradient(own)
    error = (real - expected).square() + imaginary.square()
    # Both halves of the axis are equal.
    integral = 2 * torch.trapezoid(error * expected, t, dim=-1)
    return integral.mean() * (embeddings.shape[-2] * parallel.dp_world_size)


def effective_rank(embeddings: Tensor) -> float:
    """Return the effective rank of embeddings (N, D): exp of the entropy of their singular values (arXiv 2210.02885).

    It is from 1, for embeddings on a line, to min(N - 1, D); 0 if all are equal.
    """
    values = torch.linalg.svdvals((embeddings - embeddings.mean(dim=0)).double())
    total = values.sum().item()
    if total <= 1e-9 * max(1.0, embeddings.abs().max().item()) * math.sqrt(embeddings.numel()):
        return 0.0
    shares = values / total
    return torch.special.entr(shares).sum().exp().item()
