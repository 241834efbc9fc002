"""Train embeddings without labels by LeJEPA (arXiv 2511.08544), and watch them for collapse."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.config.preprocessing import Preprocessing
from megavit.config.pretraining import PretrainingRecipe
from megavit.config.vit import pair
from megavit.data.augment import augment, draw_affine_maps, drop_color, normalize
from megavit.data.image_dataset import to_device
from megavit.distributed.context import ParallelContext
from megavit.evaluation.probes.knn import knn_predict
from megavit.model.layers import BatchNorm
from megavit.model.vit import MegaVit
from megavit.predict.forward import compute_embeddings
from megavit.runtime.seeds import seed_all
from megavit.training.context import TrainSetup
from megavit.training.history import MetricName, Validation
from megavit.training.pretraining.sigreg import distance_from_normal, effective_rank
from megavit.training.state import TrainState
from megavit.training.task import Batch, Task

# Hidden channels of the projection, as a multiple of the embedding's.
EXPANSION = 4
NORM_EPS = 1e-5
NEIGHBORS = 10
# Embeddings have collapsed below this effective rank, or share of the dimensions, or standard deviation.
MIN_RANK, MIN_RANK_SHARE, MIN_STD = 2.0, 0.02, 0.05


def make_projection(dim: int, out: int, parallel: ParallelContext | None = None) -> nn.Sequential:
    """Return a projection of embeddings (B, D) to `out` dimensions in which they are compared, in place of a head.

    Its norm is by the statistics of the global batch, since those of a part of it would change the loss.
    """
    hidden = EXPANSION * dim
    if parallel is not None and parallel.dist.is_distributed:
        from megavit.distributed.sync_batch_norm import SyncBatchNorm

        norm = SyncBatchNorm(hidden, NORM_EPS)
    else:
        norm = BatchNorm(hidden, NORM_EPS)
    for tensor, value in ((norm.weight, 1.0), (norm.bias, 0.0), (norm.mean, 0.0), (norm.variance, 1.0)):
        nn.init.constant_(tensor, value)
    return nn.Sequential(nn.Linear(dim, hidden), norm, nn.GELU(), nn.Linear(hidden, out))


@dataclass(frozen=True)
class LeJepa:
    """The objective of LeJEPA: embeddings of an image's views are equal, and those of a batch normally distributed.

    Attributes:
        recipe: views and weights.
        is_labeled: whether the classes of the images are known, which only the validation uses.
    """

    recipe: PretrainingRecipe
    is_labeled: bool

    @property
    def metric(self) -> MetricName:
        """Accuracy of nearest neighbors if the images have classes, else the embeddings' rank as a share of all."""
        return "nearest-neighbor accuracy" if self.is_labeled else "rank of embeddings"

    def accumulate_gradient(self, state: TrainState, task: Task, batch: Batch) -> list[Tensor]:
        """Accumulate the gradient of the loss of a batch of images, and return that loss ()."""
        images = to_device(batch[0], state.device)
        assert isinstance(images, Tensor)  # as the aspect is not kept
        views = self.draw_views(images, task)
        with torch.autocast(state.device.type, dtype=torch.bfloat16, enabled=task.dtype == torch.bfloat16):
            projected = [(state.wrapped or state.model)(same_size) for same_size in views]
        parts = [part.float().unflatten(0, (-1, len(images))) for part in projected]
        loss = self.loss(torch.cat(parts), state.parallel)
        loss.backward()
        return [loss.detach()]

    def loss(self, projected: Tensor, parallel: ParallelContext | None = None) -> Tensor:
        """Return the loss of projected embeddings (views, B, K), of which those of large views come first.

        With `parallel`, they are those of this process's images, and the mean over the processes is the loss of all.
        """
        center = projected[: self.recipe.large_views].mean(dim=0)
        between_views = (projected - center).square().mean()
        distance = distance_from_normal(projected, self.recipe.directions, parallel)
        return between_views.lerp(distance, self.recipe.regularization)

    def draw_views(self, images: Tensor, task: Task) -> list[Tensor]:
        """Return normalized views of uint8 images: (large views × B, C, H, W), then small ones at half of the size."""
        large, recipe = task.preprocessing, self.recipe
        small = half_size(large)
        kinds = [(large, recipe.large_views, recipe.large_crop, 1.0)]
        kinds += [(small, recipe.small_views, recipe.small_crop, recipe.large_crop)] if recipe.small_views else []
        found: list[Tensor] = []
        for preprocessing, count, crop, max_area in kinds:
            size, augmentation = (preprocessing.height, preprocessing.width), replace(task.recipe.augment, crop=crop)
            views = []
            for _ in range(count):
                maps = draw_affine_maps(len(images), size, augmentation, max_area)
                view = drop_color(augment(images, preprocessing, augmentation, maps), recipe.grayscale)
                views.append(normalize(view, preprocessing))
            found.append(torch.cat(views))
        return found

    def validate(self, model: nn.Module, setup: TrainSetup) -> Validation:
        """Return the distance of projections from a normal distribution, the metric, the rank, and the deviation.

        The processes share the images to embed, and the main one does the rest.
        """
        assert isinstance(model, MegaVit)
        parallel, preprocessing = setup.state.parallel, setup.task.preprocessing
        embeddings = setup.val_loader.map(lambda batches: compute_embeddings(model, batches, preprocessing), parallel)
        return parallel.dist.run_on_main(lambda: self._judge(model, embeddings, setup.val_loader.labels))

    def _judge(self, model: MegaVit, embeddings: Tensor, labels: Tensor) -> Validation:
        with torch.no_grad():
            was_training = model.training
            projected = model.eval().mlp_head(embeddings.to(next(model.parameters()).device))
            model.train(was_training)
            seed_all(0)  # the same directions each time
            loss = distance_from_normal(projected, self.recipe.directions).item()
            std = projected.float().std(dim=0, correction=0).mean().item()
        rank = effective_rank(embeddings)
        metric = neighbor_accuracy(embeddings, labels) if self.is_labeled else rank / embeddings.shape[1]
        return Validation(loss, metric, rank, std, describe_collapse(rank, std, embeddings.shape[1]))


def describe_collapse(rank: float, std: float, dim: int) -> str:
    """Return a warning if embeddings of `dim` numbers have collapsed, else an empty string.

    `std` is that of their projections, which are to be normally distributed.
    """
    if rank >= max(MIN_RANK, MIN_RANK_SHARE * dim) and std >= MIN_STD:
        return ""
    return (
        f"the embeddings have collapsed, so that images are hardly told apart: their effective rank is {rank:.1f} of "
        f"{dim}, and their standard deviation {std:.2g} instead of 1 where they are compared; a lower learning rate, "
        "a larger batch or more regularization helps"
    )


def half_size(preprocessing: Preprocessing) -> Preprocessing:
    """Return the preprocessing at half of the sides, rounded up to whole patches."""
    patch = pair("patch_size", preprocessing.patch_size)
    sides = (preprocessing.height, preprocessing.width)
    height, width = (-(-side // (2 * cell)) * cell for side, cell in zip(sides, patch, strict=True))
    return replace(preprocessing, height=height, width=width)


def neighbor_accuracy(embeddings: Tensor, labels: Tensor) -> float:
    """Return how often the nearest of every other embedding (N, D) have the class of one of those between."""
    known, asked = slice(None, None, 2), slice(1, None, 2)
    targets = F.one_hot(labels, int(labels.max()) + 1).float()
    votes = knn_predict(embeddings[known], targets[known], embeddings[asked], NEIGHBORS)
    return (votes.argmax(dim=1) == labels[asked]).float().mean().item()
