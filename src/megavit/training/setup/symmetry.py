"""Find out whether images may be mirrored, by comparing some of them with each other and with mirror images."""

from torch import Tensor
from torch.nn import functional as F

from megavit.config.preprocessing import Preprocessing
from megavit.data.dataset import LabeledImages
from megavit.data.image_dataset import ImageDataset, load_into_memory
from megavit.data.workers import count_workers

# Side of the gray thumbnails in pixels, how many images look for their nearest neighbor, and among how many others.
SIDE, QUERIES, OTHERS = 16, 200, 800
# Share of images whose nearest neighbor is no mirror image: 50% for CIFAR-10, 63 to 77% for clip art, emoji, clothing,
# stamps and cells of solar panels, also as some images are copies of others, and 93% for digits.
MAX_UPRIGHT_SHARE = 0.85


def can_mirror(dataset: LabeledImages) -> bool:
    """Return whether mirrored images look like other images, as with photographs and unlike letters and digits."""
    return dataset.compute_once(_can_mirror)


def _can_mirror(dataset: LabeledImages) -> bool:
    # Digests are as good as a random order, and the same on every machine.
    samples = sorted(dataset.in_split("train"), key=lambda sample: sample.digest)[: QUERIES + OTHERS]
    channels = samples[0].channels if samples[0].channels not in (1, 3, 4) else 1
    images = ImageDataset(dataset, samples, Preprocessing(height=SIDE, width=SIDE, channels=channels))
    pixels = load_into_memory(images, count_workers())
    assert isinstance(pixels, Tensor)  # as the aspect is not kept
    queries = len(samples) * QUERIES // (QUERIES + OTHERS)
    return upright_share(pixels[:queries], pixels[queries:]) <= MAX_UPRIGHT_SHARE


def upright_share(queries: Tensor, others: Tensor) -> float:
    """Return the share of images (N, C, H, W) that are nearer to one of the others than to any mirror image of them."""

    def correlate(mirrored: bool) -> Tensor:
        rows = _normalize(others.flip(3) if mirrored else others)
        return (_normalize(queries) @ rows.T).max(dim=1).values

    return (correlate(False) > correlate(True)).double().mean().item()


def _normalize(images: Tensor) -> Tensor:
    vectors = images.flatten(1).float()
    return F.normalize(vectors - vectors.mean(dim=1, keepdim=True), dim=1)
