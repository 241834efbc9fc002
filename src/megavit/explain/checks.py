"""Whether a map tells what the model does: two checks, each against what chance gives.

Deletion and insertion (Petsiuk, Das and Saenko, arXiv 1806.07421, section 3.3): patches are taken away, or shown, from
the most relevant on, and the answer's probability is watched. A map that finds what the answer comes from lets it
fall early, and rise early.

Randomized weights (Adebayo and others, arXiv 1810.03292, section 3): a map that looks the same for a model that has
learned nothing does not show what the model has learned.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from megavit.config.target import Target
from megavit.model.vit import MegaVit
from megavit.predict.postprocess.postprocess import logits_to_outputs

# Shares of the patches at which the answer is asked for: 0, 1/20, ... 1.
STEPS = 20
_BATCH = 64


class Areas(NamedTuple):
    """The mean answer while patches go, or come, one after another: the area under either curve, (B,) each.

    A good order of patches has a small `deletion` and a large `insertion`; of a random one both are the same.
    """

    deletion: Tensor
    insertion: Tensor


@torch.no_grad()
def areas(model: MegaVit, images: Tensor, order: Tensor, places: Tensor, fill: Tensor, target: Target) -> Areas:
    """How the answers at `places` follow when patches go, and come, in an order.

    Args:
        model: in evaluation mode.
        images: (B, C, height, width), normalized, on the model's device.
        order: (B, N), of each image the places of its patches, the most relevant first.
        places: (B,), of the outputs whose answers are watched.
        fill: (C,), normalized, the color of a patch that is gone. The data's mean is the usual one; it would be 0
            where pixels are normalized by the data's own mean.
        target: how logits become answers.

    Returns:
        Areas by the trapezoid rule over the share of patches, float32, on the CPU.
    """
    rows, columns = model.patch_embedding.grid(images)
    count = rows * columns
    # 0 for the most relevant patch: the inverse of the order.
    rank = order.argsort(dim=1).to(images.device)
    empty = fill.to(images).view(1, -1, 1, 1)
    known = sorted({round(share * count / STEPS) for share in range(STEPS + 1)})
    curves: list[list[Tensor]] = [[], []]
    for gone in known:
        chosen = _by_pixel(rank < gone, (rows, columns), model.config.patch_hw)
        for curve, mask in zip(curves, (chosen, ~chosen), strict=True):
            curve.append(_answers(model, torch.where(mask, empty, images), places, target))
    shares = torch.tensor(known, dtype=torch.float32) / count
    return Areas(*(torch.trapezoid(torch.stack(curve, dim=1), shares, dim=1) for curve in curves))


def order_of(maps: Tensor) -> Tensor:
    """Of maps (B, rows, columns) the places of the patches, row by row, the most relevant first: (B, N)."""
    return maps.flatten(1).argsort(dim=1, descending=True, stable=True)


def randomized(model: MegaVit, seed: int) -> MegaVit:
    """A model of the same design that has learned nothing, in evaluation mode; torch's random state is left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = MegaVit.from_config(model.config)
    return fresh.to(next(model.parameters())).eval()


def rank_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Spearman's, of each pair of maps (B, rows, columns): (B,), from -1 to 1; 0 where a map is the same all over."""
    from scipy.stats import spearmanr

    pairs = zip(one.flatten(1).tolist(), other.flatten(1).tolist(), strict=True)
    known = [0.0 if len(set(a)) == 1 or len(set(b)) == 1 else float(spearmanr(a, b).statistic) for a, b in pairs]
    return torch.tensor(known)


def _answers(model: MegaVit, images: Tensor, places: Tensor, target: Target) -> Tensor:
    answers = torch.cat([logits_to_outputs(model(part), target) for part in images.split(_BATCH)]).float().cpu()
    return answers if target.kind == "regression" else answers.gather(1, places.cpu()[:, None])[:, 0]


def _by_pixel(patches: Tensor, grid: tuple[int, int], patch_hw: tuple[int, int]) -> Tensor:
    """A value a patch, (B, N), as one a pixel, (B, 1, height, width)."""
    whole = patches.unflatten(1, grid)[:, None]
    return whole.repeat_interleave(patch_hw[0], dim=2).repeat_interleave(patch_hw[1], dim=3)
