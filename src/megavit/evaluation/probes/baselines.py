"""Classify images by simple methods on small copies of them, which a trained model should surpass."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.data.image_dataset import Images
from megavit.evaluation.probes.hog import BINS, COLOR_LEVELS, GRID, describe_images

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Method = Literal["nearest neighbors", "logistic regression", "HOG and colors"]

# Longer side in pixels of the small copies, and of the thumbnails of at most four channels; half of it for more.
SIDE, THUMBNAIL_SIDE = 32, 16
# Smaller images have no gradients worth a histogram.
MIN_HOG_SIDE = 24
MAX_TRAIN_IMAGES, MAX_SELECTION_IMAGES = 20_000, 2_000
# Methods, and how many training images make them worth their time, or all that there are; the last are always fitted.
METHODS: tuple[tuple[tuple[Method, ...], int], ...] = (
    (("nearest neighbors", "logistic regression", "HOG and colors"), 2_000),
    (("nearest neighbors", "logistic regression"), 500),
    (("nearest neighbors",), 500),
)
MIN_IMAGES_PER_CLASS = 10
MIN_SECONDS = 0.25
NEIGHBORS = (1, 3, 5, 10, 20)
# Inverse strengths of the penalty for features of mean variance 1, the strongest first.
INVERSE_PENALTIES = (0.001, 0.01, 0.1)
MAX_STEPS, TOLERANCE = 30, 1e-3
# Seconds on one thread of a server of 2021 (Zen 3, AVX2): of a floating-point operation, to shrink or describe an
# image, and to import scikit-learn.
FLOP_SECONDS, SHRINK_SECONDS, DESCRIBE_SECONDS, IMPORT_SECONDS = 2.5e-11, 1e-4, 2e-4, 0.4


class SmallImages(NamedTuple):
    """Small copies of images, uint8 (N, C, height, width), and their classes (N,)."""

    pixels: Tensor
    labels: Tensor

    def select(self, indices: Tensor) -> "SmallImages":
        return SmallImages(self.pixels[indices], self.labels[indices])


class Split(NamedTuple):
    """The small images to fit baselines on, to select their settings on, and to predict."""

    train: SmallImages
    val: SmallImages
    test: SmallImages


@dataclass(frozen=True)
class BaselinePlan:
    """The methods to fit, the number of training images that the time suffices for, and the expected seconds."""

    methods: tuple[Method, ...]
    images: int
    seconds: float


@dataclass(frozen=True)
class Baseline:
    """A fitted method, its setting, selected on the validation images, and its predictions for the test images."""

    method: Method
    setting: str
    predicted: Tensor


def shrink(images: Images, side: tuple[int, int]) -> Tensor:
    """Return copies of uint8 images, averaged to (height, width), uint8 (N, C, height, width)."""
    if isinstance(images, list):
        return torch.cat([shrink(image[None], side) for image in images])
    images = images.cpu()
    if images.shape[-2:] == side:
        return images
    return F.adaptive_avg_pool2d(images.float(), side).round().clamp(0, 255).to(torch.uint8)


def spread_evenly(labels: Tensor, count: int) -> Tensor:
    """Return the ascending indices of about `count` images with the same shares of the classes as `labels`."""
    if count >= len(labels):
        return torch.arange(len(labels))
    positions = torch.arange(count) * len(labels) // count
    return labels.argsort(stable=True)[positions].sort().values


def plan_baselines(
    sizes: tuple[int, int, int], shape: tuple[int, int, int], classes: int, seconds: float
) -> BaselinePlan:
    """Return the most methods, with enough training images, that take about `seconds`; the same on every machine.

    Args:
        sizes: number of training, validation and test images.
        shape: channels, height and width of the small images.
    """
    training, validation, test = sizes
    channels, height, width = shape
    others = min(validation, MAX_SELECTION_IMAGES) + test
    features = channels * math.prod(_thumbnail_size(shape))
    described = (GRID - 1) ** 2 * 4 * BINS + COLOR_LEVELS**3 * (channels == 3)
    step = 4 * classes * len(INVERSE_PENALTIES) * MAX_STEPS * FLOP_SECONDS  # of both directions, for each feature
    # Seconds of each method for a training image, and for all others.
    costs: dict[Method, tuple[float, float]] = {
        "nearest neighbors": (SHRINK_SECONDS + 2 * 2 * others * features * FLOP_SECONDS, SHRINK_SECONDS * others),
        "logistic regression": (step * features, 0.0),
        "HOG and colors": (DESCRIBE_SECONDS + step * described, DESCRIBE_SECONDS * others),
    }
    available = max(seconds - IMPORT_SECONDS, MIN_SECONDS)
    for methods, enough in METHODS:
        if "HOG and colors" in methods and min(height, width) < MIN_HOG_SIDE:
            continue
        per_image, fixed = (sum(costs[method][part] for method in methods) for part in (0, 1))
        affordable = int(max(0.0, available - fixed) / per_image)
        if affordable >= min(training, max(enough, MIN_IMAGES_PER_CLASS * classes)):
            break
    images = min(training, MAX_TRAIN_IMAGES, max(affordable, enough))
    return BaselinePlan(methods, images, per_image * images + fixed + IMPORT_SECONDS)


def fit_baselines(split: Split, plan: BaselinePlan) -> list[Baseline]:
    """Fit the planned methods, and predict the class of each test image, in order. Nothing in it is random."""
    train = split.train.select(spread_evenly(split.train.labels, plan.images))
    val = split.val.select(spread_evenly(split.val.labels, MAX_SELECTION_IMAGES))
    split = Split(train, val, split.test)
    fit: dict[Method, Callable[[Split], tuple[str, Tensor]]] = {
        "nearest neighbors": _predict_by_neighbors,
        "logistic regression": lambda split: _predict_by_regression(split, _thumbnails),
        "HOG and colors": lambda split: _predict_by_regression(split, describe_images),
    }
    return [Baseline(method, *fit[method](split)) for method in plan.methods]


def _thumbnail_size(shape: Sequence[int]) -> tuple[int, int]:
    channels, height, width = shape
    side = THUMBNAIL_SIDE if channels <= 4 else THUMBNAIL_SIDE // 2
    return min(side, height), min(side, width)


def _thumbnails(pixels: Tensor) -> Tensor:
    return shrink(pixels, _thumbnail_size(pixels.shape[1:])).flatten(1).float() / 255


def _normalize_each(pixels: Tensor) -> Tensor:
    """Return thumbnails each channel of which has mean 0 and deviation 1, whatever the light."""
    values = _thumbnails(pixels).unflatten(1, (pixels.shape[1], -1))
    return ((values - values.mean(dim=2, keepdim=True)) / (values.std(dim=2, keepdim=True) + 0.02)).flatten(1)


def _predict_by_neighbors(split: Split) -> tuple[str, Tensor]:
    """Return the setting and predictions of the nearest neighbors, by thumbnails or by their normalized colors."""
    from sklearn.neighbors import NearestNeighbors

    labels = split.train.labels
    most = min(max(NEIGHBORS), len(labels))
    best: tuple[float, str, Tensor] | None = None
    for name, features in (("", _thumbnails), (", each thumbnail normalized", _normalize_each)):
        index = NearestNeighbors(n_neighbors=most, algorithm="brute").fit(features(split.train.pixels).numpy())
        (val, test) = (
            tuple(map(torch.from_numpy, index.kneighbors(features(part.pixels).numpy())))
            for part in (split.val, split.test)
        )
        for k in sorted({min(k, most) for k in NEIGHBORS}):
            score = _accuracy(_vote(val, labels, k), split.val.labels)
            if best is None or score > best[0]:
                best = score, f"k = {k}{name}", _vote(test, labels, k)
    assert best is not None
    return best[1:]


def _vote(neighbors: tuple[Tensor, ...], labels: Tensor, k: int) -> Tensor:
    """Return the classes with the most of the `k` nearest neighbors, weighted by their inverse distance."""
    distances, indices = (part[:, :k] for part in neighbors)
    votes = torch.zeros(len(indices), int(labels.max()) + 1, dtype=torch.float64)
    return votes.scatter_add_(1, labels[indices], 1 / (distances.double() + 1e-6)).argmax(dim=1)


def _predict_by_regression(split: Split, features: Callable[[Tensor], Tensor]) -> tuple[str, Tensor]:
    """Return the setting and predictions of a logistic regression on `features` of the small images."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train, val, test = (features(part.pixels) for part in split)
    mean, scale = train.mean(dim=0), train.std(dim=0, correction=0).mean().clamp_min(1e-6)
    train, val, test = ((part - mean) / scale for part in (train, val, test))
    labels = split.train.labels
    if (labels == labels[0]).all():
        return "one class", labels[:1].expand(len(test))
    model = LogisticRegression(max_iter=MAX_STEPS, tol=TOLERANCE, warm_start=True)
    best: tuple[float, str, Tensor] | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in INVERSE_PENALTIES:
            model.set_params(C=strength).fit(train.numpy(), labels.numpy())
            score = _accuracy(_predict(model, val), split.val.labels)
            if best is None or score > best[0]:
                best = score, f"C = {strength:g}", _predict(model, test)
    assert best is not None
    return best[1:]


def _predict(model: "LogisticRegression", features: Tensor) -> Tensor:
    return torch.from_numpy(model.predict(features.numpy()))


def _accuracy(predicted: Tensor, labels: Tensor) -> float:
    return (predicted == labels).double().mean().item()
