"""What the estimators share: their parameters, training, and the model that is kept as the bytes of its bundle."""

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from megavit.api.reporters.choose import ReporterChoice
from megavit.api.settings import Settings
from megavit.api.train import train
from megavit.config.recipe import FinetuneMethod
from megavit.data.image_dataset import make_batch
from megavit.engine.engine import ModelOutput
from megavit.errors import DataError, OutputError
from megavit.predict.predictor import BATCH, Predictor, load
from megavit.sklearn.images import PixelRange, find_pixel_range, read_images, scale_pixels


class BundleEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The base of the estimators; `transform` returns the embeddings of images.

    Args:
        minutes, epochs, model, from_, finetune, image_size, batch_size, learning_rate, seed, device, settings: as for
            `megavit.train`. Of X, a tenth each selects the model and measures it, which
            `settings={"data": {"val": 0.1, "test": 0.1}}` changes.
        reporter: as for `megavit.train`, but silent by default.
        image_shape: shape of an image if X has rows of numbers, such as (8, 8) or (28, 28, 3); one size may be -1.
        pixel_range: values of black and white, such as (0, 16), or "fit" for the smallest and largest value of the
            training images; None for uint8 and for floats from 0 to 1.

    Attributes:
        bundle_: the bundle, as the bytes of a ZIP file, which is what is pickled; `save_bundle` writes it.
        results_: metrics on the tenth of X that measured the model, as plain JSON types.
        pixel_range_: values of black and white; None for uint8 and floats from 0 to 1.
        n_features_in_: number of columns, if X had rows of numbers.
    """

    def __init__(
        self,
        *,
        minutes: float | None = None,
        epochs: int | None = None,
        model: str | None = None,
        from_: str | os.PathLike[str] | None = None,
        finetune: FinetuneMethod | None = None,
        image_size: int | None = None,
        image_shape: Sequence[int] | None = None,
        pixel_range: PixelRange | str | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        seed: int | None = None,
        device: str | None = None,
        settings: Settings | None = None,
        reporter: ReporterChoice = None,
    ) -> None:
        self.minutes = minutes
        self.epochs = epochs
        self.model = model
        self.from_ = from_
        self.finetune = finetune
        self.image_size = image_size
        self.image_shape = image_shape
        self.pixel_range = pixel_range
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.seed = seed
        self.device = device
        self.settings = settings
        self.reporter = reporter

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the embeddings (N, D) of images."""
        outputs = [output.pooled.numpy() for output in self._forward(X)]
        return np.concatenate(outputs)

    def save_bundle(self, folder: str | os.PathLike[str]) -> Path:
        """Write the bundle to a new folder, for `megavit.load` and every command.

        Raises:
            OutputError: if the folder exists.
        """
        check_is_fitted(self)
        if Path(folder).exists():
            raise OutputError(f"{folder} already exists: choose a new folder")
        with zipfile.ZipFile(BytesIO(self.bundle_)) as archive:
            archive.extractall(folder)
        return Path(folder)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]  # stubs of an older version
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = self.image_shape is None
        tags.input_tags.string = self.image_shape is None
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "bundle_")  # `from_`, a parameter, ends as results do

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the bytes of the bundle, from which the model is loaded again."""
        return {name: value for name, value in super().__getstate__().items() if name != "_predictor"}

    @property
    def _n_features_out(self) -> int:
        return self._load().info.model.pooled_dim

    def _train(self, images: Any, targets: Sequence[str] | Sequence[float]) -> Self:
        """Train on images and targets, and keep the bundle."""
        self.pixel_range_ = find_pixel_range(images, self.pixel_range)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            try:
                run = train(
                    (scale_pixels(images, self.pixel_range_), targets),
                    out=out,
                    minutes=self.minutes,
                    epochs=self.epochs,
                    model=self.model,
                    from_=self.from_,
                    finetune=self.finetune,
                    image_size=self.image_size,
                    batch_size=self.batch_size,
                    learning_rate=self.learning_rate,
                    seed=self.seed,
                    device=self.device,
                    settings=self.settings,
                    reporter=self.reporter,
                    report=False,
                )
            except DataError as error:
                # Which scikit-learn expects of wrong X and y.
                raise ValueError(f"{error} (n_samples={len(images)})") from error
            self.results_ = run.metrics.to_dict()
            archive = shutil.make_archive(str(Path(folder) / "bundle"), "zip", run.bundle)
            self.bundle_ = Path(archive).read_bytes()
            self._predictor = run.load(device=self.device or "auto")
        return self

    def _load(self) -> Predictor:
        check_is_fitted(self)
        if "_predictor" not in self.__dict__:
            with tempfile.TemporaryDirectory() as folder:
                self._predictor = load(self.save_bundle(Path(folder) / "bundle"), device=self.device or "auto")
        return self._predictor

    def _forward(self, X: Any) -> Iterator[ModelOutput]:
        """Yield the outputs of the model for batches of X."""
        predictor = self._load()
        images = scale_pixels(read_images(self, X, self.image_shape, reset=False), self.pixel_range_)
        for start in range(0, len(images), BATCH):
            prepared = [predictor.prepare(image) for image in images[start : start + BATCH]]
            yield predictor.forward(make_batch(prepared, predictor.info.preprocessing))

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        """Return the calibrated probabilities (N, classes), or the scores (N,)."""
        calibrator = self._load().calibrator
        outputs = [calibrator.outputs(output.logits).double().numpy() for output in self._forward(X)]
        return np.concatenate(outputs)
