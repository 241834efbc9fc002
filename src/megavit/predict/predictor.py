"""Predict with a bundle, for one image, a list or a stream of images.

predictor = megavit.load("runs/flowers")
prediction = predictor.predict("photo.jpg")
print(prediction.label, prediction.probability)
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from megavit.config.target import TargetKind
from megavit.data.byte_range import ByteRange
from megavit.data.decode.image_file import TargetSize
from megavit.data.decode.tensor import decode_with_size, from_array, from_pillow
from megavit.data.image_dataset import Images, make_batch, preprocess
from megavit.data.shards.index import Damaged
from megavit.data.workers import MAX_WORKERS
from megavit.engine.engine import Engine, ModelOutput, Precision, check_precision
from megavit.engine.ensemble import EnsembleEngine
from megavit.errors import BundleError, ConfigError, ImageError
from megavit.model.outputs.ensemble import Ensemble
from megavit.model.vit import MegaVit
from megavit.predict.forward import EmbeddingResult
from megavit.predict.input_sources import IsolatedRange, image_file
from megavit.predict.int8_speed import describe_slow_int8
from megavit.predict.postprocess.postprocess import Calibrator, check_calibration_tensors
from megavit.predict.postprocess.predictions import NOT_FINITE, finite_rows
from megavit.predict.prediction import Prediction, PredictionResult
from megavit.predict.streaming import BatchStreamer
from megavit.runtime.device import pick_device
from megavit.runtime.hub import download, is_hub_name
from megavit.runtime.processors import available_cpus
from megavit.weights.bundle.bundle import Bundle, get_single_model, load_bundle, verify_reference_outputs
from megavit.weights.bundle.info import BundleInfo

Image = str | os.PathLike[str] | bytes | ByteRange | IsolatedRange | Damaged | PIL.Image.Image | np.ndarray | Tensor

BATCH = 32
BATCHES_AHEAD = 2  # batches decoded ahead of the model


class Predictor:
    """A predictor that runs the model of a bundle; safe to use from several threads.

    Attributes:
        target: "classification", "multilabel" or "regression".
        labels: names of the classes or labels, in the order of the logits; empty for regression.
        folder, info: folder and metadata of the bundle.
        engine: `Engine` that runs the model, or `EnsembleEngine`; its `note` says which runtime is used, and why.
        calibrator: `Calibrator` that turns the model's outputs into predictions.
    """

    def __init__(self, bundle: Bundle, device: torch.device, precision: Precision = "float32") -> None:
        self.folder = bundle.folder
        self.info = info = bundle.info
        self.labels = tuple(info.labels)
        self.target: TargetKind = info.target.kind
        self._model = model = bundle.model.to(device)
        bounds = info.int8["bounds"] if precision == "int8" else None
        self.engine = (
            EnsembleEngine(model, info.preprocessing, precision)
            if isinstance(model, Ensemble)
            else Engine(model, info.preprocessing, precision, bounds)
        )
        check_calibration_tensors(info.calibration, bundle.calibration_tensors, len(self.labels), info.model.pooled_dim)
        self.calibrator = Calibrator(info.calibration, bundle.calibration_tensors, info.target, len(self.labels))

    @property
    def model(self) -> MegaVit:
        """The `MegaVit`, in evaluation mode; raises a BundleError for an ensemble."""
        return get_single_model(self._model, self.folder)

    @property
    def slow_precision(self) -> str | None:
        """A sentence if the precision was measured to be no faster than another on such a processor, else None."""
        return describe_slow_int8(self.info.int8) if self.engine.precision == "int8" else None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle only the folder and the metadata; the model is loaded again when unpickled."""
        if self.engine.is_changed:
            raise ConfigError(
                "this model's weights were changed after it was loaded, but only its folder is pickled: save it as a "
                "bundle and load that"
            )
        device = str(next(self._model.parameters()).device)
        return _reload, (self.folder.resolve(), self.info, device, self.engine.precision)

    @overload
    def predict(self, image: Image, top: int = 5, coverage: float | None = None) -> Prediction: ...
    @overload
    def predict(self, image: Sequence[Image], top: int = 5, coverage: float | None = None) -> list[Prediction]: ...
    def predict(
        self, image: Image | Sequence[Image], top: int = 5, coverage: float | None = None
    ) -> Prediction | list[Prediction]:
        """Return the prediction for an image, or for each image of a list.

        Args:
            image: a path, the bytes of an image file, a PIL image, a NumPy array (height, width) or (height, width,
                channels), or a tensor (channels, height, width), of any size. Arrays and tensors are uint8, or floats
                in [0, 1], with 1, 3 or 4 channels (the fourth is opacity, over white), or the model's own number.
            top: number of classes or labels in `Prediction.top`.
            coverage: probability in (0, 1) with which the returned set of classes or interval of scores contains the
                true value, for images like the training images; None for no set or interval.

        Raises:
            ImageError: (a ValueError) if an image cannot be read; the message gives the reason.
            ConfigError: if the bundle does not support this coverage.
        """
        self.check_coverage(coverage)
        if not isinstance(image, list | tuple):
            return self._predict([self.prepare(image)], top, coverage)[0]
        return [
            prediction
            for start in range(0, len(image), BATCH)
            for prediction in self._predict(list(map(self.prepare, image[start : start + BATCH])), top, coverage)
        ]

    def stream(
        self,
        images: Iterable[tuple[str, Image]],
        *,
        top: int = 5,
        coverage: float | None = None,
        batch_size: int = BATCH,
        workers: int | None = None,
    ) -> Iterator[PredictionResult]:
        """Yield the result for each (name, image), in order, with only a few batches in memory.

        A batch starts early if all images that have arrived are decoded. `images` is iterated in a separate thread. An
        image that cannot be read gets a result with the reason, and the stream continues.

        Args:
            top, coverage: see `predict`.
            workers: number of decoding threads; None for one per processor, at most `MAX_WORKERS`.
        """
        self.check_coverage(coverage)

        def compute(prepared: list[Tensor]) -> list[Prediction | None]:
            outputs = self.forward(make_batch(prepared, self.info.preprocessing))
            finite = finite_rows(self.calibrator.outputs(outputs.logits), *outputs)
            rows = np.flatnonzero(finite).tolist()
            selected = ModelOutput(*(values[rows] for values in outputs))
            predictions = iter(self.calibrator.predictions(selected, self.labels, top, coverage))
            return [next(predictions) if is_finite else None for is_finite in finite]

        for name, prediction, error in self._streamer(images, batch_size, workers).process(batch_size, compute):
            yield PredictionResult(name, prediction, error)

    def embed(self, image: Image | Sequence[Image]) -> Tensor:
        """Return the float32 embedding (D,) of an image, or the embeddings (N, D) of a list of images, on the CPU.

        An embedding is the input of the head: the pooled features after the last norm; of an ensemble, those of its
        first model. Images that the model sees as
        similar have embeddings with a high cosine similarity. For `image` and errors see `predict`.
        """
        if not isinstance(image, list | tuple):
            return self._embed([self.prepare(image)])[0]
        starts = range(0, len(image), BATCH)
        batches = [self._embed(list(map(self.prepare, image[start : start + BATCH]))) for start in starts]
        return torch.cat(batches) if batches else torch.empty(0, self.info.model.pooled_dim)

    def embed_stream(
        self, images: Iterable[tuple[str, Image]], *, batch_size: int = BATCH, workers: int | None = None
    ) -> Iterator[EmbeddingResult]:
        """Yield the embedding of each (name, image), in order: see `stream`."""

        def compute(prepared: list[Tensor]) -> list[Tensor | None]:
            vectors = self.engine(make_batch(prepared, self.info.preprocessing)).pooled
            return [
                vector if is_finite else None for vector, is_finite in zip(vectors, finite_rows(vectors), strict=True)
            ]

        for name, vector, error in self._streamer(images, batch_size, workers).process(batch_size, compute):
            yield EmbeddingResult(name, vector, error)

    def check_coverage(self, coverage: float | None) -> None:
        """Raise a ConfigError with the reason if the bundle does not support a coverage; None is always supported."""
        if coverage is not None:
            self.calibrator.check_coverage(coverage)

    def outputs(self, batches: Iterable[Images]) -> Iterator[Tensor]:
        """Yield the probabilities or scores of uint8 batches of prepared images: see `logits_to_outputs`."""
        for batch in batches:
            yield self.calibrator.outputs(self.forward(batch).logits)

    def forward(self, batch: Images) -> ModelOutput:
        """Return features (B, D) and logits (B, outputs) of a uint8 batch; raise a BundleError without a classifier."""
        if not self.info.model.num_classes:
            raise BundleError(
                "this bundle has no classifier: megavit embed computes its embeddings, and "
                "megavit train DATA --from BUNDLE trains a classifier on top"
            )
        return self.engine(batch)

    def prepare(self, image: Any) -> Tensor:
        """Return an image resized for the model, uint8 (C, height, width); raise an ImageError if it is unreadable."""
        self.engine.handle_fork()
        preprocessing = self.info.preprocessing
        pixels, size = read_image(image, preprocessing.decode_size)
        return preprocess(pixels, preprocessing.size_for(*size), preprocessing)

    def _streamer(
        self, images: Iterable[tuple[str, Image]], batch_size: int, workers: int | None
    ) -> BatchStreamer[str, Tensor]:
        threads = min(available_cpus(), MAX_WORKERS) if workers is None else workers
        return BatchStreamer(images, self.prepare, ahead=BATCHES_AHEAD * batch_size, workers=threads)

    def _embed(self, prepared: list[Tensor]) -> Tensor:
        vectors = self.engine(make_batch(prepared, self.info.preprocessing)).pooled
        if not finite_rows(vectors).all():
            raise BundleError(NOT_FINITE)
        return vectors

    def _predict(self, prepared: list[Tensor], top: int, coverage: float | None) -> list[Prediction]:
        outputs = self.forward(make_batch(prepared, self.info.preprocessing))
        return self.calibrator.predictions(outputs, self.labels, top, coverage)


def load(
    folder: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: str = "float32",
    verify: bool = False,
    keep_aspect: bool = False,
) -> Predictor:
    """Load the predictor of a bundle or of a training run.

    Args:
        folder: folder written by `megavit train` or `megavit convert`, or hf-hub:USER/NAME for a bundle on the hub.
        device: "auto", "cpu", "cuda", "cuda:N", "mps" (a Mac's GPU), "xpu" (Intel's) or "xpu:N".
        precision: precision of the matrix products: "float32", exact up to rounding; "bfloat16", faster, with 3 digits;
            or "int8", for a bundle written by `megavit quantize`.
        verify: whether to check that the bundle's reference images give the stored outputs; on a GPU they always must.
        keep_aspect: whether to keep the images' aspect ratio, even if the model was trained without.

    Raises:
        BundleError: if a file is missing, damaged or inconsistent; the message names it.
        ConfigError: if the device or precision is not available.
    """
    chosen = pick_device(device)
    checked = check_precision(precision, chosen)
    name = os.fspath(folder)
    bundle = load_bundle(download(name) if is_hub_name(name) else Path(name), verify=verify)
    if checked == "int8" and not bundle.info.int8:
        raise ConfigError(f"{name} has no bounds for int8: measure them with megavit quantize BUNDLE DATA --out FOLDER")
    predictor = Predictor(with_aspect_kept(bundle) if keep_aspect else bundle, chosen, checked)
    if chosen.type != "cpu":  # a device and its driver may be ones that nobody has tried
        verify_reference_outputs(bundle)
    return predictor


def _reload(folder: Path, info: BundleInfo, device: str, precision: Precision) -> Predictor:
    bundle = load_bundle(folder)
    if bundle.info.files != info.files:
        raise BundleError(f"the bundle in {folder} is not the one that was pickled: load it again")
    return Predictor(replace(bundle, info=info), pick_device(device), precision)


def with_aspect_kept(bundle: Bundle) -> Bundle:
    """Return a copy of the bundle whose preprocessing keeps the images' aspect ratio."""
    preprocessing = replace(bundle.info.preprocessing, keep_aspect=True, patch_size=bundle.info.model.patch_size)
    return replace(bundle, info=replace(bundle.info, preprocessing=preprocessing))


def read_image(image: Any, target_size: TargetSize | None) -> tuple[Tensor, tuple[int, int]]:
    """Return the pixels of an image, uint8 (C, H, W), and its (height, width) at full scale.

    For `image` and errors see `Predictor.predict`, for `target_size` see `megavit.data.decode.tensor.decode_with_size`.
    """
    if (file := image_file(image)) is not None:
        return decode_with_size(file, target_size)
    match image:
        case PIL.Image.Image():
            pixels = from_pillow(image)
        case np.ndarray() | Tensor():
            pixels = from_array(image)
        case _:
            raise ImageError(
                "expected a path, bytes, a PIL image, a NumPy array or a tensor, got " + type(image).__name__
            )
    return pixels, (pixels.shape[1], pixels.shape[2])
