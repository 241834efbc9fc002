"""The record beside an exported model: every file's SHA-256, and a few inputs with the outputs that they must give."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from megavit.config.export_info import EMBEDDING, PROBABILITIES, SCORE, ExportInfo, ExportPrecision
from megavit.config.serialization import parse_json
from megavit.errors import BundleError
from megavit.predict.finite import NOT_FINITE, finite_rows
from megavit.runtime.storage import sha256

Run = Callable[[np.ndarray], dict[str, np.ndarray]]

RECORD, REFERENCE = "megavit-export.json", "reference.npz"
INPUT = "input"
TOLERANCES: Mapping[ExportPrecision, float] = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 1e-1, "int8": 0.25}
"""Between two machines, of the largest output or of 1; damage that checksums miss, such as a runtime that computes in
other numbers than it was asked to, is off by more."""
_TRIAL_SIDE = 16


def write_record(folder: Path, inputs: np.ndarray, run: Run) -> None:
    """Write `reference.npz` and the record of all model files in a folder.

    Args:
        inputs: a batch of a few.
        run: the model that was written there.
    """
    arrays: dict[str, Any] = {INPUT: inputs} | run(inputs)
    np.savez(folder / REFERENCE, **arrays)
    files = sorted(path.name for path in folder.iterdir() if path.name == REFERENCE or path.stem == "model")
    digests = {name: sha256(folder / name) for name in files}
    (folder / RECORD).write_text(json.dumps({"files": digests}, indent=1) + "\n")


def check_files(folder: Path) -> bool:
    """Return whether there is a record, all of whose files are what was written.

    Raises:
        BundleError: naming the one that is missing or damaged.
    """
    record = folder / RECORD
    if not record.is_file():
        return False
    try:
        files = parse_json(record.read_bytes(), str(record), BundleError).get("files")
    except OSError as error:
        raise BundleError(f"{record} cannot be read: {error.strerror}") from None
    if not isinstance(files, dict) or not files or any(Path(name).name != name for name in files):
        raise BundleError(f"{record} is damaged: it names no files; copy the whole folder again")
    for name, expected in files.items():
        try:
            found = sha256(folder / name)
        except FileNotFoundError:
            raise BundleError(f"the export {folder} has no {name}; copy the whole folder again") from None
        except OSError as error:
            raise BundleError(f"{folder / name} cannot be read: {error.strerror}") from None
        if found != expected:
            raise BundleError(f"{folder / name} is damaged: it is not the file that was written; copy it again")
    return True


def check_outputs(folder: Path, info: ExportInfo, run: Run) -> None:
    """Run the model once, and raise a BundleError unless its outputs are of its labels, and what they must be.

    Without reference outputs, as beside models that were exported before there were any, their shapes are checked.
    """
    inputs, expected = np.zeros((1, _TRIAL_SIDE, _TRIAL_SIDE, info.channels), np.uint8), {}
    try:
        if (folder / RECORD).is_file():
            with np.load(folder / REFERENCE, allow_pickle=False) as arrays:
                expected = {name: arrays[name] for name in arrays.files}
            inputs = expected.pop(INPUT)
        found = run(inputs)
    except Exception as error:  # noqa: BLE001 - the runtimes raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BundleError(f"the model in {folder} cannot be run: {reason}; export it again") from None
    _check_shapes(folder, info, found, len(inputs))
    for name, values in expected.items():
        apart = np.abs(found[name].astype(np.float64) - values) if name in found else np.array(np.inf)
        if not apart.max() <= TOLERANCES[info.precision] * max(1.0, np.abs(values).max()):
            raise BundleError(
                f"the model in {folder} does not give its reference outputs here: {name} is off by {apart.max():.2g}; "
                "export it again, on this machine"
            )


def reference_inputs(pixels: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """Return a few pictures uint8 (H, W, C), of any sizes, as one batch of small ones: (B, height, width, C)."""
    small = []
    for one in pixels:
        rows, columns = (
            np.arange(side) * have // side for side, have in zip((height, width), one.shape[:2], strict=True)
        )
        small.append(one[rows][:, columns])
    return np.stack(small)


def _check_shapes(folder: Path, info: ExportInfo, found: Mapping[str, np.ndarray], count: int) -> None:
    if EMBEDDING not in found:
        raise BundleError(f"the model in {folder} has no output {EMBEDDING!r}: it is not one that megavit exported")
    name, expected = (SCORE, (count,)) if info.target == "regression" else (PROBABILITIES, (count, len(info.labels)))
    came = found[name].shape if name in found else (count, 0)
    if came != expected:
        raise BundleError(
            f"the model in {folder} gives {name} of shape {tuple(came)}, and by its metadata it must be {expected}, "
            "one for each label: they are not of one model; export it again"
        )
    if not finite_rows(*found.values()).all():
        raise BundleError(f"the model in {folder} is of no use: {NOT_FINITE}")
