"""The predictor: a bundle that answers for one image, for many, or for a stream of them.

predictor = megavit.load("runs/flowers")
prediction = predictor.predict("photo.jpg")
print(prediction.label, prediction.probability)
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
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
from megavit.data.workers import MAX_WORKERS, available_cpus
from megavit.engine.engine import Engine, ModelOutput, Precision, check_precision
from megavit.errors import BundleError, ConfigError, ImageError
from megavit.predict.finite import NOT_FINITE, finite_rows
from megavit.predict.forward import EmbeddingResult
from megavit.predict.input_sources import IsolatedRange
from megavit.predict.postprocess.postprocess import Calibrator, check_tensors
from megavit.predict.prediction import Prediction, PredictionResult
from megavit.predict.streaming import BatchStreamer
from megavit.runtime.device import pick_device
from megavit.weights.bundle.bundle import Bundle, BundleInfo, load_bundle
from megavit.weights.pretrained.hub import download, is_hub_name

Image = str | os.PathLike[str] | bytes | ByteRange | IsolatedRange | Damaged | PIL.Image.Image | np.ndarray | Tensor

# Decoding runs ahead of the model by this many batches, so that neither waits and memory stays bounded.
BATCHES_AHEAD = 2
BATCH = 32


class Predictor:
    """Answers for images; safe to use from several threads.

    Attributes:
        target: "classification" (one for each image), "multilabel" (any number of them), or "regression" (a number).
        labels: the classes or labels, in the order of the logits; none for a score.
        folder: of the bundle.
        info: everything the bundle says about itself.
        model: the `MegaVit`, in evaluation mode.
        engine: computes its features; its `note` says by which way, and why.
        trusted: what makes answers of these, with how far they may be trusted.
    """

    def __init__(self, bundle: Bundle, device: torch.device, precision: Precision = "float32") -> None:
        self.folder = bundle.folder
        self.info = bundle.info
        self.labels = tuple(bundle.info.labels)
        self.target: TargetKind = bundle.info.target.kind
        self.model = bundle.model.to(device)
        bounds = bundle.info.int8["bounds"] if precision == "int8" else None
        self.engine = Engine(self.model, bundle.info.preprocessing, precision, bounds)
        check_tensors(bundle.info.calibration, bundle.calibration_tensors, len(self.labels), bundle.info.model.dim)
        self.calibrator = Calibrator(
            bundle.info.calibration, bundle.calibration_tensors, bundle.info.target, len(self.labels)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the folder that it was loaded from, which is read again where it is unpickled."""
        if self.engine.is_changed:
            raise ConfigError(
                "this model's weights were changed after it was loaded, and it is pickled as its folder: save it as a "
                "bundle, and load that"
            )
        device = str(next(self.model.parameters()).device)
        return _reload, (self.folder.resolve(), self.info, device, self.engine.precision)

    @overload
    def predict(self, image: Image, top: int = 5, coverage: float | None = None) -> Prediction: ...
    @overload
    def predict(self, image: Sequence[Image], top: int = 5, coverage: float | None = None) -> list[Prediction]: ...
    def predict(
        self, image: Image | Sequence[Image], top: int = 5, coverage: float | None = None
    ) -> Prediction | list[Prediction]:
        """What is in an image, or in each of a list of images.

        Args:
            image: a path, the bytes of an image file, a PIL image, a NumPy array (height, width) or
                (height, width, channels), or a tensor (channels, height, width); arrays and tensors are uint8, or
                floats in [0, 1]. Any size; 1, 3 or 4 channels (the fourth is opacity, over white), or those of a
                model of another number.
            top: how many classes or labels `Prediction.top` lists.
            coverage: in (0, 1): also give the set of classes, or the range of scores, that holds the true one with
                this probability, for images like those of training.

        Raises:
            ImageError: (a ValueError) for an image that cannot be read, with the reason.
            ConfigError: for a coverage that this bundle cannot promise.
        """
        self.check_coverage(coverage)
        if not isinstance(image, list | tuple):
            return self._predictions([self.prepare(image)], top, coverage)[0]
        found: list[Prediction] = []
        for start in range(0, len(image), BATCH):
            found += self._predictions([self.prepare(one) for one in image[start : start + BATCH]], top, coverage)
        return found

    def stream(
        self,
        images: Iterable[tuple[str, Image]],
        *,
        top: int = 5,
        coverage: float | None = None,
        batch_size: int = BATCH,
        workers: int | None = None,
    ) -> Iterator[PredictionResult]:
        """An answer for each (name, image), in order, with only a few batches in memory.

        Images are answered as they come: a batch is begun once no other image has come and all that have are decoded.
        `images` is read in a thread of its own. An image that cannot be read gets an answer with its reason; the
        others go on.

        Args:
            top, coverage: as of `predict`.
            workers: threads that decode images; None: one a processor, at most `MAX_WORKERS`.
        """
        self.check_coverage(coverage)
        with self._arrivals(images, batch_size, workers) as arrivals:
            for batch in arrivals.batches(batch_size):
                for answer in self._answers(batch, top, coverage):
                    arrivals.answered()
                    yield answer

    def embed(self, image: Image | Sequence[Image]) -> Tensor:
        """The embedding of an image, (D,), or of each of a list of images, (N, D): float32, on the CPU.

        It is what the head classifies, the pooled features after the last norm: images that the model takes for
        alike have embeddings of much the same direction.

        Args:
            image: as `predict` takes it.

        Raises:
            ImageError: (a ValueError) for an image that cannot be read, with the reason.
        """
        if not isinstance(image, list | tuple):
            return self._embeddings([self.prepare(image)])[0]
        starts = range(0, len(image), BATCH)
        found = [self._embeddings([self.prepare(one) for one in image[at : at + BATCH]]) for at in starts]
        return torch.cat(found) if found else torch.empty(0, self.model.config.dim)

    def embed_stream(
        self, images: Iterable[tuple[str, Image]], *, batch_size: int = BATCH, workers: int | None = None
    ) -> Iterator[EmbeddingResult]:
        """The embedding of each (name, image), as `stream` gives answers."""
        with self._arrivals(images, batch_size, workers) as arrivals:
            for batch in arrivals.batches(batch_size):
                prepared, reasons = _sorted(batch)
                vectors = dict(zip(prepared, self._pooled(list(prepared.values())) if prepared else (), strict=True))
                reasons |= {i: NOT_FINITE for i, vector in vectors.items() if not vector.isfinite().all()}
                for i, (name, _) in enumerate(batch):
                    arrivals.answered()
                    yield EmbeddingResult(name, None if i in reasons else vectors[i], reasons.get(i))

    def check_coverage(self, coverage: float | None) -> None:
        """Raise a ConfigError, with the reason, for a coverage that cannot be promised; not for None."""
        if coverage is not None:
            self.calibrator.check_coverage(coverage)

    def outputs(self, batches: Iterable[Images]) -> Iterator[Tensor]:
        """Answers as numbers, for uint8 batches as `preprocess` makes their pictures.

        For "classification" (B, classes) probabilities, rows summing to 1; for "multilabel" (B, labels) probabilities,
        each label by itself; for "regression" (B,) scores.
        """
        for batch in batches:
            yield self.calibrator.outputs(self.forward(batch).logits)

    def forward(self, batch: Images) -> ModelOutput:
        """What the model sees in a uint8 batch: features and logits, (B, D) and (B, outputs), float32, on the CPU.

        Raises:
            BundleError: for a model without a classifier.
        """
        if not self.model.config.num_classes:
            raise BundleError(
                "this bundle has no classifier: megavit embed gives what it sees in images, and "
                "megavit train DATA --init BUNDLE trains one on top"
            )
        return self.engine(batch)

    def prepare(self, image: Any) -> Tensor:
        """An `Image`, as `predict` takes it, at the model's size: uint8 (channels, height, width).

        Raises:
            ImageError: when it cannot be read.
        """
        self.engine.notice_fork()
        size = self.info.preprocessing
        pixels, whole = read_image(image, size.decode_size)
        return preprocess(pixels, size.size_for(*whole), size)

    def _arrivals(
        self, images: Iterable[tuple[str, Image]], batch_size: int, workers: int | None
    ) -> BatchStreamer[str, Tensor]:
        threads = min(available_cpus(), MAX_WORKERS) if workers is None else workers
        return BatchStreamer(images, self.prepare, ahead=BATCHES_AHEAD * batch_size, workers=threads)

    def _answers(
        self, chunk: list[tuple[str, Future[Tensor]]], top: int, coverage: float | None
    ) -> Iterator[PredictionResult]:
        prepared, reasons = _sorted(chunk)
        predictions: dict[int, Prediction] = {}
        if prepared:
            seen = self.forward(make_batch(list(prepared.values()), self.info.preprocessing))
            fine = finite_rows(self.calibrator.outputs(seen.logits), *seen)
            reasons |= {i: NOT_FINITE for i, good in zip(prepared, fine, strict=True) if not good}
            rows = [row for row, good in enumerate(fine) if good]
            found = self.calibrator.predictions(ModelOutput(*(part[rows] for part in seen)), self.labels, top, coverage)
            predictions = dict(zip((i for i in prepared if i not in reasons), found, strict=True))
        for i, (name, _) in enumerate(chunk):
            yield PredictionResult(name, predictions.get(i), reasons.get(i))

    def _embeddings(self, pictures: list[Tensor]) -> Tensor:
        found = self._pooled(pictures)
        if not finite_rows(found).all():
            raise BundleError(NOT_FINITE)
        return found

    def _pooled(self, pictures: list[Tensor]) -> Tensor:
        return self.engine(make_batch(pictures, self.info.preprocessing)).pooled

    def _predictions(self, pictures: list[Tensor], top: int, coverage: float | None) -> list[Prediction]:
        seen = self.forward(make_batch(pictures, self.info.preprocessing))
        return self.calibrator.predictions(seen, self.labels, top, coverage)


def load(
    folder: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: str = "float32",
    verify: bool = False,
    keep_aspect: bool = False,
) -> Predictor:
    """The predictor of a bundle, or of the folder of a training run.

    Args:
        folder: what `megavit train` or `megavit convert` wrote, or hf-hub:USER/NAME for one on the hub.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: of the matrix products: "float32", exact up to rounding; "bfloat16", faster and with 3 digits; or
            "int8", for a bundle that `megavit quantize` wrote.
        verify: also check that the bundle's reference images give the stored outputs.
        keep_aspect: resize images with their aspect kept, also where the model was not trained so.

    Raises:
        BundleError: naming what is missing, damaged, or disagrees.
        ConfigError: for a device or precision that is not there.
    """
    chosen = pick_device(device)
    checked = check_precision(precision, chosen)
    name = os.fspath(folder)
    bundle = load_bundle(download(name) if is_hub_name(name) else Path(name), verify=verify)
    if checked == "int8" and not bundle.info.int8:
        raise ConfigError(f"{name} has no bounds for int8; megavit quantize BUNDLE DATA --out FOLDER measures them")
    return Predictor(with_aspect_kept(bundle) if keep_aspect else bundle, chosen, checked)


def _reload(folder: Path, info: BundleInfo, device: str, precision: Precision) -> Predictor:
    """Return the predictor of a bundle that must be what it was when the predictor was pickled."""
    bundle = load_bundle(folder)
    if bundle.info.files != info.files:
        raise BundleError(f"the bundle in {folder} is another than the one that was pickled; load it anew")
    return Predictor(replace(bundle, info=info), pick_device(device), precision)


def with_aspect_kept(bundle: Bundle) -> Bundle:
    """The bundle as if it had been trained on images that keep their aspect."""
    preprocessing = replace(bundle.info.preprocessing, keep_aspect=True, patch_size=bundle.info.model.patch_size)
    return replace(bundle, info=replace(bundle.info, preprocessing=preprocessing))


def _sorted(chunk: list[tuple[str, Future[Tensor]]]) -> tuple[dict[int, Tensor], dict[int, str]]:
    """By place: those that could be prepared, and the reasons why the others could not."""
    prepared: dict[int, Tensor] = {}
    reasons: dict[int, str] = {}
    for i, (_, future) in enumerate(chunk):
        try:
            prepared[i] = future.result()
        except ImageError as error:
            reasons[i] = error.reason
    return prepared, reasons


def read_image(image: Any, need: TargetSize | None) -> tuple[Tensor, tuple[int, int]]:
    """An `Image`'s pixels, uint8 (C, H, W), and its (height, width) at full scale; see `decode` for `need`.

    Raises:
        ImageError: when it cannot be read.
    """
    match image:
        case str() | os.PathLike():
            return decode_with_size(Path(image), need)
        case bytes():
            return decode_with_size(image, need)
        case ByteRange() | IsolatedRange():
            return decode_with_size(image.read(), need)
        case Damaged():
            raise ImageError(image.reason)
        case PIL.Image.Image():
            pixels = from_pillow(image)
        case np.ndarray() | Tensor():
            pixels = from_array(image)
        case _:
            raise ImageError(
                "expected a path, bytes, a PIL image, a NumPy array or a tensor, got " + type(image).__name__
            )
    return pixels, (pixels.shape[1], pixels.shape[2])
