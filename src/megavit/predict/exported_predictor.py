"""Answers from an exported model, with NumPy and its runtime alone: PyTorch is not imported.

model = megavit.load_exported("flowers-onnx")
print(model.predict("photo.jpg").label)
"""

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import PIL.Image

from megavit.config.export_info import EMBEDDING, EXPORT_FORMAT, METADATA, PIXELS, ExportInfo
from megavit.config.serialization import from_dict, parse_json
from megavit.data.byte_range import ByteRange
from megavit.data.decode.color_modes import composite_on_white
from megavit.data.decode.image_file import from_pillow, read_image_file
from megavit.data.decode.npy import to_uint8
from megavit.data.shards.index import Damaged
from megavit.data.workers import MAX_WORKERS, available_cpus
from megavit.engine.forked import never_free
from megavit.errors import BundleError, ConfigError, ImageError
from megavit.predict.export_record import RECORD, check_files, check_outputs
from megavit.predict.finite import NOT_FINITE, finite_rows
from megavit.predict.input_sources import IsolatedRange
from megavit.predict.postprocess.numpy_postprocess import predictions
from megavit.predict.prediction import Prediction, PredictionResult
from megavit.predict.streaming import BatchStreamer

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Maps an input of the model to its outputs by name."""
Image = str | os.PathLike[str] | bytes | ByteRange | IsolatedRange | Damaged | PIL.Image.Image | np.ndarray

FILES = ("model.onnx", "model.xml")
BATCH = 32
MAX_VALUES_AT_ONCE = 2**25
"""Of the pictures that are given to a model at once: it keeps each as float32 while it makes it smaller."""
MAX_WAITING_BYTES = 2**28
"""Of decoded pictures that wait for a model, which are of their own sizes until it makes them smaller."""


class ExportedPredictor:
    """Answers for images; safe to use from several threads.

    Attributes:
        target, labels: as of a `megavit.Predictor`.
        info: what the model says of itself.
        folder: that it lies in.
    """

    def __init__(self, folder: Path, info: ExportInfo, run: Run) -> None:
        if info.input != PIXELS:
            raise ConfigError(
                f"the model in {folder} was exported with --input images: whoever prepares them runs it; "
                "export it with pixels for use from here"
            )
        self.folder, self.info, self.run = folder, info, run
        self.target, self.labels = info.target, tuple(info.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the folder that it was loaded from, which is read again where it is unpickled."""
        return _reload, (self.folder.resolve(), self.info)

    @overload
    def predict(self, image: Image, top: int = 5, coverage: float | None = None) -> Prediction: ...
    @overload
    def predict(self, image: Sequence[Image], top: int = 5, coverage: float | None = None) -> list[Prediction]: ...
    def predict(
        self, image: Image | Sequence[Image], top: int = 5, coverage: float | None = None
    ) -> Prediction | list[Prediction]:
        """Return what is in an image, or in each of a list of images: see `megavit.Predictor.predict`.

        Args:
            coverage: one of those that the model was exported with.

        Raises:
            ImageError: for an image that cannot be read, with the reason.
            ConfigError: for another coverage.
        """
        self.check_coverage(coverage)
        if not isinstance(image, list | tuple):
            return self.answer([self.prepare(image)], top, coverage)[0][0]
        chunks = self._chunks(image)
        return [prediction for chunk in chunks for prediction, _ in self.answer(chunk, top, coverage)]

    def embed(self, image: Image | Sequence[Image]) -> np.ndarray:
        """Return the embedding of an image, (D,), or of each of a list of images, (N, D): float32."""
        if not isinstance(image, list | tuple):
            return self._embedded([self.prepare(image)])[0]
        found = [self._embedded(chunk) for chunk in self._chunks(image)]
        return np.concatenate(found) if found else np.empty((0, 0), np.float32)

    def _chunks(self, images: Sequence[Image]) -> Iterator[list[np.ndarray]]:
        """The images prepared, up to `BATCH` at a time, and to `MAX_WAITING_BYTES` but for one."""
        chunk: list[np.ndarray] = []
        for image in images:
            chunk.append(self.prepare(image))
            if len(chunk) == BATCH or sum(one.nbytes for one in chunk) >= MAX_WAITING_BYTES:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _embedded(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        found = np.stack([one[EMBEDDING] for one in self._seen(pixels)])
        if not np.isfinite(found).all():
            raise BundleError(NOT_FINITE)
        return found

    def stream(
        self,
        images: Iterable[tuple[str, Image]],
        *,
        top: int = 5,
        coverage: float | None = None,
        batch_size: int = BATCH,
    ) -> Iterator[PredictionResult]:
        """An answer for each (name, image), in order: see `megavit.Predictor.stream`."""
        self.check_coverage(coverage)
        workers = min(available_cpus(), MAX_WORKERS)
        limits = {"ahead": 2 * batch_size, "workers": workers, "max_bytes": MAX_WAITING_BYTES}
        with BatchStreamer(images, self.prepare, **limits) as arrivals:
            for batch in arrivals.batches(batch_size):
                prepared: list[np.ndarray] = []
                reasons: list[str | None] = []
                for _, future in batch:
                    try:
                        prepared.append(future.result())
                        reasons.append(None)
                    except ImageError as error:
                        reasons.append(error.reason)
                found = iter(self._answers(prepared, top, coverage))
                for (name, _), reason in zip(batch, reasons, strict=True):
                    arrivals.answered()
                    prediction = next(found) if reason is None else None
                    yield PredictionResult(
                        name, prediction, NOT_FINITE if reason is None and prediction is None else reason
                    )

    def answer(
        self, pixels: Sequence[np.ndarray], top: int = 5, coverage: float | None = None
    ) -> list[tuple[Prediction, np.ndarray]]:
        """Predictions and embeddings (D,) for pictures as `prepare` gives them; those of one size go together."""
        return self._told(self._seen(pixels), top, coverage)

    def _told(
        self, found: Sequence[dict[str, np.ndarray]], top: int, coverage: float | None
    ) -> list[tuple[Prediction, np.ndarray]]:
        if not found:
            return []
        outputs = {name: np.stack([one[name] for one in found]) for name in found[0]}
        return list(zip(predictions(self.info, outputs, top, coverage), outputs[EMBEDDING], strict=True))

    def _answers(self, pixels: Sequence[np.ndarray], top: int, coverage: float | None) -> list[Prediction | None]:
        """Predictions; None for an answer that is no number, which costs no other."""
        seen = self._seen(pixels)
        fine = [bool(finite_rows(*(values[None] for values in one.values()))[0]) for one in seen]
        found = iter(self._told([one for one, good in zip(seen, fine, strict=True) if good], top, coverage))
        return [next(found)[0] if good else None for good in fine]

    def _seen(self, pixels: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """The model's outputs for each picture; pictures of one size are given to it together."""
        by_size: dict[tuple[int, ...], list[int]] = {}
        for place, one in enumerate(pixels):
            by_size.setdefault(one.shape, []).append(place)
        found: list[dict[str, np.ndarray]] = [{} for _ in pixels]
        for shape, places in by_size.items():
            most = max(1, MAX_VALUES_AT_ONCE // math.prod(shape))
            for start in range(0, len(places), most):
                chosen = places[start : start + most]
                outputs = self.run(np.stack([pixels[place] for place in chosen]))
                for row, place in enumerate(chosen):
                    found[place] = {name: values[row] for name, values in outputs.items()}
        return found

    def prepare(self, image: Any) -> np.ndarray:
        """An image as the model takes it: uint8 (height, width, channels), of its own size or a reduced one.

        Raises:
            ImageError: when it cannot be read, or its channels do not fit.
        """
        match image:
            case str() | os.PathLike():
                pixels, _ = read_image_file(Path(image), self.info.preprocessing.decode_size)
            case bytes():
                pixels, _ = read_image_file(image, self.info.preprocessing.decode_size)
            case ByteRange() | IsolatedRange():
                pixels, _ = read_image_file(image.read(), self.info.preprocessing.decode_size)
            case Damaged():
                raise ImageError(image.reason)
            case PIL.Image.Image():
                pixels = from_pillow(image)
            case np.ndarray():
                pixels = to_uint8(image)
            case _:
                raise ImageError("expected a path, bytes, a PIL image or a NumPy array, got " + type(image).__name__)
        return to_input_channels(pixels, self.info)

    def check_coverage(self, coverage: float | None) -> None:
        """Raise a ConfigError unless the model has that coverage, or it is None."""
        known = self.info.sets or self.info.intervals or {}
        if coverage is not None and str(coverage) not in known:
            raise ConfigError(
                f"this model was exported with the coverages {', '.join(known)}, not {coverage}"
                if known
                else "there is no coverage to be had: this model was exported without"
            )


def to_input_channels(pixels: np.ndarray, info: ExportInfo) -> np.ndarray:
    """uint8 (H, W, C) with the channels of the model's input: opacity on white, gray as RGB.

    Raises:
        ImageError: where they do not fit.
    """
    have, want = pixels.shape[2], info.channels
    if have == 4 and want == 3:
        pixels = np.array(composite_on_white(PIL.Image.fromarray(np.ascontiguousarray(pixels)), "RGB"))
    elif have == 1 and want == 3:
        pixels = pixels.repeat(3, axis=2)
    elif have != want:
        wanted = "1, 3 or 4" if want == 3 else str(want)
        raise ImageError(f"{have} channels, where the model takes images of {wanted}")
    return pixels


def load_exported(folder: str | os.PathLike[str]) -> ExportedPredictor:
    """The model that `megavit export` wrote to a folder, to onnx or openvino.

    Its files must be those that were written, and it must give its reference outputs.

    Raises:
        BundleError: where there is none, it is damaged, or it cannot be run.
    """
    recorded = check_files(Path(folder))
    run, metadata, path = open_exported(Path(folder))
    info = read_export_info(metadata, path)
    if info.recorded and not recorded:
        raise BundleError(f"the export {path.parent} has no {RECORD}; copy the whole folder again")
    found = ExportedPredictor(path.parent, info, run)
    check_outputs(found.folder, info, run)
    return found


def _reload(folder: Path, info: ExportInfo) -> ExportedPredictor:
    """Return the model in a folder, which must be what it was when it was pickled."""
    found = load_exported(folder)
    if found.info != info:
        raise BundleError(f"the exported model in {folder} is another than the one that was pickled; load it anew")
    return found


def open_exported(folder: Path) -> tuple[Run, str, Path]:
    """What runs the exported model in a folder, the metadata that it carries, and its file.

    Raises:
        BundleError: as `load_exported`.
    """
    path = find_exported_model(folder)
    if path is None:
        raise BundleError(f"{folder} holds no exported model ({' or '.join(FILES)}); megavit export makes one")
    try:
        return *(_onnx(path) if path.suffix == ".onnx" else _openvino(path)), path
    except ImportError as error:
        raise BundleError(f"{path} needs a runtime that is not installed: {error.name}") from None
    except Exception as error:  # noqa: BLE001 - the runtimes raise anything for a damaged file
        raise BundleError(f"{path} cannot be run: {str(error).splitlines()[0]}; export it again") from None


def find_exported_model(folder: Path) -> Path | None:
    """The exported model in a folder; None where there is none."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def read_export_info(metadata: str, path: Path) -> ExportInfo:
    """What the file at `path` says of itself; raises a BundleError where that is not whole, or too new."""
    table = parse_json(metadata, str(path), BundleError)
    if isinstance(table.get("format"), int) and table["format"] > EXPORT_FORMAT:
        raise BundleError(f"{path} has format {table['format']}, newer than {EXPORT_FORMAT}; update megavit")
    try:
        return from_dict(ExportInfo, table, str(path))
    except ConfigError as error:
        raise BundleError(str(error)) from None


def _onnx(path: Path) -> tuple[Run, str]:
    run = _OnnxFile(path)
    return run, run.metadata


class _OnnxFile:
    """Runs an ONNX file; a forked process opens it anew, since the threads of the first session stayed behind."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()
        self.metadata = self._session.get_modelmeta().custom_metadata_map.get(METADATA, "")

    def __call__(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        if self._process != os.getpid():
            never_free(self._session)
            self._open()
        found = self._session.run(self._names, {self._given: inputs})
        return {name: np.asarray(values) for name, values in zip(self._names, found, strict=True)}

    def __del__(self) -> None:
        if self.__dict__.get("_process") != os.getpid():
            never_free(self.__dict__)

    def _open(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # its remarks on what it would have done otherwise are none of the user's
        self._session = onnxruntime.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]
        self._given = self._session.get_inputs()[0].name
        self._process = os.getpid()


def _openvino(path: Path) -> tuple[Run, str]:
    run = _OpenVinoFile(path)
    return run, run.metadata


class _OpenVinoFile:
    """Runs a graph of OpenVINO's; it must end as it ran, with the thread's signal stack kept."""

    def __init__(self, path: Path) -> None:
        from megavit.engine.compile import compile_for_cpu  # first: megavit.engine silences OpenVINO's import
        from megavit.engine.signal_stack import keeping_signal_stack

        import openvino as ov  # isort: skip

        self._keeping, self._process = keeping_signal_stack, os.getpid()
        with keeping_signal_stack():
            model = ov.Core().read_model(path)
            # Left to itself it would compute in 16 bits where the processor has them.
            settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
            self._compiled = compile_for_cpu(model, settings)
        self._names = [output.any_name for output in self._compiled.outputs]
        self._own = threading.local()
        self.metadata = model.get_rt_info(METADATA).astype(str) if model.has_rt_info(METADATA) else ""

    def __call__(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        with self._keeping():
            if not hasattr(self._own, "request"):
                self._own.request = self._compiled.create_infer_request()
            self._own.request.infer([inputs])
            found = [self._own.request.get_output_tensor(place).data for place in range(len(self._names))]
            # The next images of this thread overwrite them.
            return {name: np.array(values) for name, values in zip(self._names, found, strict=True)}

    def __del__(self) -> None:
        if self.__dict__.get("_process") != os.getpid():
            never_free(self.__dict__)
            return
        keeping = self.__dict__.pop("_keeping", None)
        if keeping is not None:
            with keeping():
                self.__dict__.clear()
