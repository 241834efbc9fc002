"""Write and check the record of an exported model: file checksums (SHA-256), and reference inputs and outputs."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from megavit.config.export_info import EMBEDDING, PROBABILITIES, SCORE, ExportInfo, ExportPrecision
from megavit.config.serialization import parse_json
from megavit.errors import BundleError
from megavit.predict.postprocess.predictions import NOT_FINITE, finite_rows
from megavit.runtime.storage import sha256

Run = Callable[[np.ndarray], dict[str, np.ndarray]]

RECORD, REFERENCE = "megavit-export.json", "reference.npz"
INPUT = "input"
SELF_TEST_TOLERANCES: Mapping[ExportPrecision, float] = {
    "float32": 1e-3,
    "float16": 1e-2,
    "bfloat16": 1e-1,
    "int8": 0.25,
}
"""The largest allowed error between two machines, relative to the largest output or to 1, whichever is larger."""
_TRIAL_SIDE = 16


def write_record(folder: Path, inputs: np.ndarray, run: Run) -> None:
    """Write `reference.npz`, a small batch of inputs with their outputs, and the record of all model files."""
    arrays: dict[str, Any] = {INPUT: inputs} | run(inputs)
    np.savez(folder / REFERENCE, **arrays)
    files = sorted(
        path.name for path in folder.iterdir() if path.name == REFERENCE or (path.stem == "model" and path.is_file())
    )
    digests = {name: sha256(folder / name) for name in files}
    (folder / RECORD).write_text(json.dumps({"files": digests}, indent=1) + "\n")


def check_files(folder: Path) -> bool:
    """Return whether a folder has a record, or raise a BundleError if a file that it lists is missing or damaged."""
    record = folder / RECORD
    if not record.is_file():
        return False
    try:
        files = parse_json(record.read_bytes(), str(record), BundleError).get("files")
    except OSError as error:
        raise BundleError(f"{record} cannot be read: {error.strerror}") from None
    if not isinstance(files, dict) or not files or any(Path(name).name != name for name in files):
        raise BundleError(f"{record} is damaged: it lists no files; copy the whole folder again")
    for name, expected in files.items():
        try:
            actual = sha256(folder / name)
        except FileNotFoundError:
            raise BundleError(f"the export {folder} has no {name}; copy the whole folder again") from None
        except OSError as error:
            raise BundleError(f"{folder / name} cannot be read: {error.strerror}") from None
        if actual != expected:
            raise BundleError(f"{folder / name} is damaged: it is not the file that was written; copy it again")
    return True


def check_outputs(folder: Path, info: ExportInfo, run: Run) -> None:
    """Raise a BundleError unless the model gives its reference outputs, or without a record, the right shapes."""
    inputs, expected = np.zeros((1, _TRIAL_SIDE, _TRIAL_SIDE, info.channels), np.uint8), {}
    try:
        if (folder / RECORD).is_file():
            with np.load(folder / REFERENCE, allow_pickle=False) as arrays:
                expected = {name: arrays[name] for name in arrays.files}
            inputs = expected.pop(INPUT)
        outputs = run(inputs)
    except Exception as error:  # noqa: BLE001 - the runtimes raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BundleError(f"the model in {folder} cannot be run: {reason}; export it again") from None
    _check_shapes(folder, info, outputs, len(inputs))
    for name, values in expected.items():
        error = np.abs(outputs[name].astype(np.float64) - values) if name in outputs else np.array(np.inf)
        if not error.max() <= SELF_TEST_TOLERANCES[info.precision] * max(1.0, np.abs(values).max()):
            raise BundleError(
                f"the model in {folder} does not reproduce its reference outputs on this machine: {name} is off by "
                f"{error.max():.2g}; export it again here"
            )


def reference_inputs(pixels: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """Return uint8 images (H, W, C) of any sizes as a batch (B, height, width, C), resized by nearest neighbor."""
    small = []
    for image in pixels:
        rows, columns = np.arange(height) * image.shape[0] // height, np.arange(width) * image.shape[1] // width
        small.append(image[rows][:, columns])
    return np.stack(small)


def _check_shapes(folder: Path, info: ExportInfo, outputs: Mapping[str, np.ndarray], count: int) -> None:
    if EMBEDDING not in outputs:
        raise BundleError(f"the model in {folder} has no output {EMBEDDING!r}: it was not exported by megavit")
    name, expected = (SCORE, (count,)) if info.target == "regression" else (PROBABILITIES, (count, len(info.labels)))
    shape = outputs[name].shape if name in outputs else (count, 0)
    if shape != expected:
        raise BundleError(
            f"the model in {folder} outputs {name} of shape {tuple(shape)}, but by its metadata the shape must be "
            f"{expected}: the metadata is not of this model; export it again"
        )
    if not finite_rows(*outputs.values()).all():
        raise BundleError(f"the model in {folder} cannot be used: {NOT_FINITE}")
