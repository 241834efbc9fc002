"""A Vision Transformer as a regressor of scikit-learn."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin

from megavit.sklearn.base import BundleEstimator
from megavit.sklearn.images import read_images, read_targets


class MegaVitRegressor(RegressorMixin, BundleEstimator):
    """A model that predicts a number for each image, for every tool of scikit-learn.

    For X see `MegaVitClassifier`, for parameters and attributes `BundleEstimator`.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Train on images and their numbers.

        Raises:
            ValueError: if X is no images, or y no finite numbers of them, or there are too few.
        """
        images = read_images(self, X, self.image_shape, reset=True)
        return self._train(images, read_targets(images, y).astype(np.float64).tolist())

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return the predicted number of each image (N,)."""
        return self._outputs(X)
