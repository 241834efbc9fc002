"""A Vision Transformer as a classifier of scikit-learn."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from megavit.sklearn.base import BundleEstimator
from megavit.sklearn.images import read_images, read_targets

SMALLEST = float(np.finfo(np.float32).tiny)
"""Probability in place of 0, whose logarithm is not finite."""


class MegaVitClassifier(ClassifierMixin, BundleEstimator):
    """A classifier of images, for pipelines, searches and every other tool of scikit-learn.

    X is an array of images (N, height, width) or (N, height, width, channels), or a list of paths. Rows of numbers are
    images if `image_shape` says how. For parameters and attributes see `BundleEstimator`.

    Attributes:
        classes_: the classes, sorted.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Train on images and their classes.

        Raises:
            ValueError: if X is no images, or y no classes of them, or there are too few.
        """
        images = read_images(self, X, self.image_shape, reset=True)
        y = read_targets(images, y)
        check_classification_targets(y)
        classes, indices = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"a classifier needs images of at least 2 classes, got 1 class: {classes[0]!r}")
        width = len(str(len(classes) - 1))  # so that the names sort as the classes do
        self._train(images, [f"{index:0{width}d}" for index in indices])
        self.classes_ = classes
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each image (N,)."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the calibrated probabilities (N, classes), in the order of `classes_`."""
        probabilities = self._outputs(X)
        return probabilities / probabilities.sum(axis=1, keepdims=True)  # rounded in float32 before

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return the log-probabilities (N, classes), or for two classes the log-odds of the second (N,)."""
        logarithms = np.log(self.predict_proba(X).clip(min=SMALLEST))
        return logarithms[:, 1] - logarithms[:, 0] if len(self.classes_) == 2 else logarithms
