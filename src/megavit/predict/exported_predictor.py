"""Predict with an exported model, using only NumPy and the model's runtime, without PyTorch.

model = megavit.load_exported("flowers-onnx")
print(model.predict("photo.jpg").label)
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import PIL.Image

from megavit.config.export_info import EMBEDDING, EXPORT_FORMAT, MODEL_FILES, PIXELS, PROBABILITIES, SCORE, ExportInfo
from megavit.config.serialization import from_dict, parse_json
from megavit.data.byte_range import ByteRange
from megavit.data.decode.color_modes import composite_on_white
from megavit.data.decode.image_file import from_pillow, read_image_file
from megavit.data.decode.npy import to_uint8
from megavit.data.shards.index import Damaged
from megavit.data.workers import MAX_WORKERS
from megavit.errors import BundleError, ConfigError, ImageError
from megavit.predict.export_record import RECORD, check_files, check_outputs
from megavit.predict.input_sources import IsolatedRange, image_file
from megavit.predict.postprocess.predictions import NOT_FINITE, DecisionRule, finite_rows, make_predictions
from megavit.predict.prediction import Prediction, PredictionResult
from megavit.predict.runtimes import Run, open_onnx, open_openvino
from megavit.predict.streaming import BatchStreamer
from megavit.runtime.processors import available_cpus

Image = str | os.PathLike[str] | bytes | ByteRange | IsolatedRange | Damaged | PIL.Image.Image | np.ndarray

BATCH = 32
MAX_INPUT_VALUES = 2**25  # per call of a model, which keeps them as float32 until they are resized
MAX_PENDING_BYTES = 2**28  # size of the decoded images, not yet resized, that wait for the model


class ExportedPredictor:
    """A predictor that runs an exported model; safe to use from several threads.

    Attributes:
        target, labels: see `megavit.Predictor`.
        folder, info: folder and metadata of the exported model.
        run: function from the model's input to its outputs by name.
    """

    def __init__(self, folder: Path, info: ExportInfo, run: Run) -> None:
        if info.input != PIXELS:
            raise ConfigError(
                f"the model in {folder} was exported with --input images, for images that are prepared elsewhere; "
                "export it with --input pixels to use it from megavit"
            )
        self.folder, self.info, self.run = folder, info, run
        self.target, self.labels = info.target, tuple(info.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle only the folder and the metadata; the model is loaded again when unpickled."""
        return _reload, (self.folder.resolve(), self.info)

    @overload
    def predict(self, image: Image, top: int = 5, coverage: float | None = None) -> Prediction: ...
    @overload
    def predict(self, image: Sequence[Image], top: int = 5, coverage: float | None = None) -> list[Prediction]: ...
    def predict(
        self, image: Image | Sequence[Image], top: int = 5, coverage: float | None = None
    ) -> Prediction | list[Prediction]:
        """Return the prediction for an image, or for each image of a list: see `megavit.Predictor.predict`."""
        self.check_coverage(coverage)
        if not isinstance(image, list | tuple):
            return self.predict_prepared([self.prepare(image)], top, coverage)[0][0]
        chunks = self._prepare_chunks(image)
        return [prediction for chunk in chunks for prediction, _ in self.predict_prepared(chunk, top, coverage)]

    def embed(self, image: Image | Sequence[Image]) -> np.ndarray:
        """Return the float32 embedding (D,) of an image, or the embeddings (N, D) of a list of images."""
        if not isinstance(image, list | tuple):
            return self._embed([self.prepare(image)])[0]
        chunks = [self._embed(chunk) for chunk in self._prepare_chunks(image)]
        return np.concatenate(chunks) if chunks else np.empty((0, 0), np.float32)

    def stream(
        self,
        images: Iterable[tuple[str, Image]],
        *,
        top: int = 5,
        coverage: float | None = None,
        batch_size: int = BATCH,
    ) -> Iterator[PredictionResult]:
        """Yield the result for each (name, image), in order: see `megavit.Predictor.stream`."""
        self.check_coverage(coverage)

        def compute(prepared: list[np.ndarray]) -> list[Prediction | None]:
            rows = self._run_by_size(prepared)
            finite = [all(np.isfinite(values).all() for values in row.values()) for row in rows]
            selected = [row for row, is_finite in zip(rows, finite, strict=True) if is_finite]
            predictions = iter(self._decide(selected, top, coverage))
            return [next(predictions)[0] if is_finite else None for is_finite in finite]

        workers = min(available_cpus(), MAX_WORKERS)
        limits = {"ahead": 2 * batch_size, "workers": workers, "max_bytes": MAX_PENDING_BYTES}
        for name, prediction, error in BatchStreamer(images, self.prepare, **limits).process(batch_size, compute):
            yield PredictionResult(name, prediction, error)

    def predict_prepared(
        self, pixels: Sequence[np.ndarray], top: int = 5, coverage: float | None = None
    ) -> list[tuple[Prediction, np.ndarray]]:
        """Return the prediction and the embedding (D,) of each image returned by `prepare`."""
        return self._decide(self._run_by_size(pixels), top, coverage)

    def prepare(self, image: Any) -> np.ndarray:
        """Return an image as the model's input, uint8 (height, width, channels), or raise an ImageError."""
        if (file := image_file(image)) is not None:
            return to_input_channels(read_image_file(file, self.info.preprocessing.decode_size)[0], self.info)
        match image:
            case PIL.Image.Image():
                pixels = from_pillow(image)
            case np.ndarray():
                pixels = to_uint8(image)
            case _:
                raise ImageError("expected a path, bytes, a PIL image or a NumPy array, got " + type(image).__name__)
        return to_input_channels(pixels, self.info)

    def check_coverage(self, coverage: float | None) -> None:
        """Raise a ConfigError unless the model was exported with this coverage, or it is None."""
        known = self.info.sets or self.info.intervals or {}
        if coverage is not None and str(coverage) not in known:
            raise ConfigError(
                f"this model was exported with the coverages {', '.join(known)}, not {coverage}"
                if known
                else "this model was exported without coverages: leave coverage out"
            )

    def _prepare_chunks(self, images: Sequence[Image]) -> Iterator[list[np.ndarray]]:
        chunk: list[np.ndarray] = []
        for image in images:
            chunk.append(self.prepare(image))
            if len(chunk) == BATCH or sum(pixels.nbytes for pixels in chunk) >= MAX_PENDING_BYTES:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _embed(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        vectors = np.stack([row[EMBEDDING] for row in self._run_by_size(pixels)])
        if not np.isfinite(vectors).all():
            raise BundleError(NOT_FINITE)
        return vectors

    def _run_by_size(self, pixels: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(pixels):
            by_size.setdefault(image.shape, []).append(index)
        rows: list[dict[str, np.ndarray]] = [{} for _ in pixels]
        for shape, indices in by_size.items():
            size = max(1, MAX_INPUT_VALUES // math.prod(shape))
            for start in range(0, len(indices), size):
                batch = indices[start : start + size]
                outputs = self.run(np.stack([pixels[index] for index in batch]))
                for row, index in enumerate(batch):
                    rows[index] = {name: values[row] for name, values in outputs.items()}
        return rows

    def _decide(
        self, rows: Sequence[dict[str, np.ndarray]], top: int, coverage: float | None
    ) -> list[tuple[Prediction, np.ndarray]]:
        if not rows:
            return []
        outputs = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        if SCORE not in outputs and PROBABILITIES not in outputs:
            raise BundleError("this model has no classifier, only embeddings: use embed")
        if not finite_rows(*outputs.values()).all():
            raise BundleError(NOT_FINITE)
        info, key = self.info, str(coverage)
        rule = DecisionRule(
            target=info.target,
            labels=info.labels,
            thresholds=info.thresholds,
            ood_threshold=info.ood_threshold,
            set_limits=np.array(info.sets[key]) if info.sets and coverage is not None else None,
            interval_half_width=info.intervals[key] if info.intervals and coverage is not None else None,
        )
        return list(zip(make_predictions(outputs, rule, top), outputs[EMBEDDING], strict=True))


def to_input_channels(pixels: np.ndarray, info: ExportInfo) -> np.ndarray:
    """Return a uint8 image (H, W, C) with the model's channels, or raise an ImageError if they cannot be converted."""
    channels, expected = pixels.shape[2], info.channels
    if channels == 4 and expected == 3:
        pixels = np.array(composite_on_white(PIL.Image.fromarray(np.ascontiguousarray(pixels)), "RGB"))
    elif channels == 1 and expected == 3:
        pixels = pixels.repeat(3, axis=2)
    elif channels != expected:
        accepted = "1, 3 or 4" if expected == 3 else str(expected)
        raise ImageError(f"the image has {channels} channels, but the model expects {accepted}")
    return pixels


def load_exported(folder: str | os.PathLike[str]) -> ExportedPredictor:
    """Load an ONNX or OpenVINO model from a folder written by `megavit export`, and check its files and outputs.

    Raises:
        BundleError: if there is no model, or it is damaged or cannot be run.
    """
    recorded = check_files(Path(folder))
    run, metadata, path = open_exported(Path(folder))
    info = read_export_info(metadata, path)
    if info.recorded and not recorded:
        raise BundleError(f"the export {path.parent} has no {RECORD}; copy the whole folder again")
    predictor = ExportedPredictor(path.parent, info, run)
    check_outputs(predictor.folder, info, run)
    return predictor


def _reload(folder: Path, info: ExportInfo) -> ExportedPredictor:
    predictor = load_exported(folder)
    if predictor.info != info:
        raise BundleError(f"the exported model in {folder} is not the one that was pickled: load it again")
    return predictor


def open_exported(folder: Path) -> tuple[Run, str, Path]:
    """Return the run function, the metadata as JSON and the path of an exported model, or raise a BundleError."""
    path = find_exported_model(folder)
    if path is None:
        raise BundleError(
            f"{folder} has no exported model ({' or '.join(MODEL_FILES)}): create one with megavit export"
        )
    try:
        run, metadata = open_onnx(path) if path.suffix == ".onnx" else open_openvino(path)
        return run, metadata, path
    except ImportError as error:
        raise BundleError(f"{path} needs a runtime that is not installed: {error.name}") from None
    except Exception as error:  # noqa: BLE001 - the runtimes raise anything for a damaged file
        raise BundleError(f"{path} cannot be run: {str(error).splitlines()[0]}; export it again") from None


def find_exported_model(folder: Path) -> Path | None:
    """Return the path of the exported model in a folder, or None if there is none."""
    return next((folder / name for name in MODEL_FILES if (folder / name).is_file()), None)


def read_export_info(metadata: str, path: Path) -> ExportInfo:
    """Parse the metadata of the model at `path`; raise a BundleError if it is incomplete, or of a newer format."""
    table = parse_json(metadata, str(path), BundleError)
    if isinstance(table.get("format"), int) and table["format"] > EXPORT_FORMAT:
        raise BundleError(f"{path} has format {table['format']}, newer than {EXPORT_FORMAT}; update megavit")
    try:
        return from_dict(ExportInfo, table, str(path))
    except ConfigError as error:
        raise BundleError(str(error)) from None
