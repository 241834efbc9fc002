"""Faithfulness of relevance maps: two checks, each compared with chance.

Deletion and insertion (Petsiuk, Das and Saenko, arXiv 1806.07421, section 3.3): patches are removed, or shown, from the
most relevant on, and the output is observed. With a map of the patches that the output depends on it falls early, and
rises early.

Randomized weights (Adebayo and others, arXiv 1810.03292, section 3): a map that looks the same for an untrained model
does not show what the model has learned.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from megavit.config.target import Target
from megavit.model.outputs.logits import logits_to_outputs
from megavit.model.vit import MegaVit

# Shares of the patches at which the output is computed: 0, 1/20, ... 1.
STEPS = 20
_BATCH_SIZE = 64


class CurveAreas(NamedTuple):
    """Area under the curve of the output over the share of patches removed, and inserted, (B,) each.

    A good order of patches has a small `deletion` and a large `insertion`; for a random one both are the same.
    """

    deletion: Tensor
    insertion: Tensor


@torch.no_grad()
def curve_areas(
    model: MegaVit, images: Tensor, order: Tensor, outputs: Tensor, *, fill: Tensor, target: Target
) -> CurveAreas:
    """Return the areas for the outputs at `outputs` while patches are removed, and inserted, in an order.

    Args:
        model: in evaluation mode.
        images: (B, C, height, width), normalized, on the model's device.
        order: (B, N), the indices of each image's patches, the most relevant first.
        outputs: (B,), the indices of the outputs to observe.
        fill: (C,), normalized, the color of a removed patch. The data's mean is the usual one; it would be 0 where
            pixels are normalized by the data's own mean.
        target: how logits become outputs.

    Returns:
        Areas by the trapezoid rule over the share of patches, float32, on the CPU.
    """
    rows, columns = model.patch_embedding.grid(images)
    count = rows * columns
    # 0 for the most relevant patch: the inverse of the order.
    rank = order.argsort(dim=1).to(images.device)
    empty = fill.to(images).view(1, -1, 1, 1)
    counts = sorted({round(share * count / STEPS) for share in range(STEPS + 1)})
    curves: list[list[Tensor]] = [[], []]
    for removed in counts:
        chosen = _to_pixels(rank < removed, (rows, columns), model.config.patch_hw)
        for curve, mask in zip(curves, (chosen, ~chosen), strict=True):
            curve.append(_compute_outputs(model, torch.where(mask, empty, images), outputs, target))
    shares = torch.tensor(counts, dtype=torch.float32) / count
    return CurveAreas(*(torch.trapezoid(torch.stack(curve, dim=1), shares, dim=1) for curve in curves))


def rank_patches(maps: Tensor) -> Tensor:
    """Return the indices of the patches of maps (B, rows, columns), the most relevant first: (B, N)."""
    return maps.flatten(1).argsort(dim=1, descending=True, stable=True)


def untrained(model: MegaVit, seed: int) -> MegaVit:
    """Return an untrained model of the same design in evaluation mode; torch's random state is unchanged."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = MegaVit.from_config(model.config)
    return fresh.to(next(model.parameters())).eval()


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Spearman's correlation of each pair of maps (B, rows, columns), (B,); 0 where a map is constant."""
    from scipy.stats import spearmanr

    pairs = zip(a.flatten(1).tolist(), b.flatten(1).tolist(), strict=True)
    return torch.tensor(
        [0.0 if len(set(x)) == 1 or len(set(y)) == 1 else float(spearmanr(x, y).statistic) for x, y in pairs]
    )


def _compute_outputs(model: MegaVit, images: Tensor, outputs: Tensor, target: Target) -> Tensor:
    predicted = torch.cat([logits_to_outputs(model(part), target) for part in images.split(_BATCH_SIZE)]).float().cpu()
    return predicted if target.kind == "regression" else predicted.gather(1, outputs.cpu()[:, None])[:, 0]


def _to_pixels(patches: Tensor, grid: tuple[int, int], patch_hw: tuple[int, int]) -> Tensor:
    """Return values per patch, (B, N), as values per pixel, (B, 1, height, width)."""
    grid_values = patches.unflatten(1, grid)[:, None]
    return grid_values.repeat_interleave(patch_hw[0], dim=2).repeat_interleave(patch_hw[1], dim=3)
