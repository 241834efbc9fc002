"""Save, load and verify bundles: folders with a trained model and everything needed to use it.

model.safetensors   the weights, of all models of an ensemble
megavit.json        config, labels, preprocessing, metrics, data, recipe, versions, and every file's SHA-256
reference.safetensors  a few real images and the model's logits for them
calibration.safetensors  tensors for calibration, prediction sets and out-of-distribution detection, if fitted
samples.csv         which images were used for training, validation and testing
README.md           the model card
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.config.serialization import from_dict, parse_json
from megavit.data.augment import normalize
from megavit.data.image_dataset import make_batch, preprocess, to_device
from megavit.errors import BundleError, ConfigError, OutputError
from megavit.model.outputs.cosine_head import CosineHead
from megavit.model.outputs.ensemble import Ensemble
from megavit.model.outputs.split_linear import SplitLinear
from megavit.model.vit import MegaVit
from megavit.runtime.storage import new_folder, sha256, write_file, writing
from megavit.weights.bundle.info import FORMAT, BundleInfo
from megavit.weights.bundle.model_card import render_model_card
from megavit.weights.bundle.safetensors_io import align_parameters, load_weights, read_tensors, write_tensors

INFO, WEIGHTS, REFERENCE, CALIBRATION, SAMPLES, CARD = (
    "megavit.json",
    "model.safetensors",
    "reference.safetensors",
    "calibration.safetensors",
    "samples.csv",
    "README.md",
)

# Allows for float32 rounding on other machines; wrong preprocessing or weights differ far more.
REFERENCE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle, with its model in evaluation mode on the CPU and the tensors of `info.calibration`."""

    folder: Path
    info: BundleInfo
    model: MegaVit | Ensemble
    calibration_tensors: Mapping[str, Tensor]

    @property
    def single_model(self) -> MegaVit:
        """The model; raises a BundleError for an ensemble."""
        return get_single_model(self.model, self.folder)


def get_single_model(model: MegaVit | Ensemble, folder: Path) -> MegaVit:
    """Return the model of the bundle in `folder`, or raise a BundleError if it is an ensemble."""
    if isinstance(model, MegaVit):
        return model
    run = folder.parent / "folds" / str(model.members[0].fold)
    where = f"such as {run}" if run.exists() else "in the folder folds of the run that wrote it"
    raise BundleError(
        f"{folder} is an ensemble of {len(model.members)} models. It can be predicted with, evaluated, calibrated, "
        f"served and pushed, but this needs a single model: pass the run of one of its folds, {where}"
    )


def save_bundle(
    folder: Path,
    model: MegaVit | Ensemble,
    info: BundleInfo,
    *,
    reference: Sequence[Tensor],
    samples: bytes,
    calibration_tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a bundle to `folder` atomically, replacing a bundle that is already there.

    Args:
        reference: decoded images, uint8 (C, height, width) of any size.
        samples: contents of `samples.csv`.
        calibration_tensors: tensors of `info.calibration`; None if nothing was fitted.

    Raises:
        OutputError: if `folder` cannot be written.
    """
    with writing("the bundle", folder), new_folder(folder) as new:
        write_tensors(new / WEIGHTS, model.state_dict())
        logits = _logits(model, info.preprocessing, reference)
        images = {f"image.{i}": image for i, image in enumerate(reference)}
        write_tensors(new / REFERENCE, images | {"logits": logits})
        (new / SAMPLES).write_bytes(samples)
        write_file(new / CARD, render_model_card(info).encode(errors="replace"))
        if calibration_tensors:
            write_tensors(new / CALIBRATION, dict(calibration_tensors))
        names = [WEIGHTS, REFERENCE, SAMPLES, CARD, *([CALIBRATION] if calibration_tensors else [])]
        files = {name: sha256(new / name) for name in names}
        _write_info(new / INFO, replace(info, files=files))


def copy_bundle(
    folder: Path, out: Path, info: BundleInfo, calibration_tensors: Mapping[str, Tensor] | None = None
) -> None:
    """Copy the bundle in `folder` to the new folder `out` with another `info`, which must have the same `files`.

    Args:
        calibration_tensors: new tensors of `info.calibration`; None to keep those of the bundle.

    Raises:
        OutputError: if `out` exists or cannot be written.
    """
    if out.exists():
        raise OutputError(f"{out} already exists: choose a new folder")
    with writing("the bundle", out), new_folder(out) as new:
        for name in info.files:
            shutil.copyfile(folder / name, new / name)
        if calibration_tensors is not None:
            write_tensors(new / CALIBRATION, dict(calibration_tensors))
            info = replace(info, files=info.files | {CALIBRATION: sha256(new / CALIBRATION)})
        write_file(new / CARD, render_model_card(info).encode(errors="replace"))  # paths may not be valid text
        _write_info(new / INFO, replace(info, files=info.files | {CARD: sha256(new / CARD)}))


def _write_info(path: Path, info: BundleInfo) -> None:
    text = json.dumps(asdict(info), ensure_ascii=False).encode(errors="replace")
    table = json.loads(text)
    write_file(path, json.dumps(table | {"sha256": _checksum(table)}, indent=1, ensure_ascii=False))


def load_bundle(folder: Path, *, verify: bool = False) -> Bundle:
    """Load the bundle in `folder`, or in `folder/bundle`, where a training run puts it.

    The SHA-256 of every file is checked; with `verify`, also the logits of the reference images.

    Raises:
        BundleError: if a file is missing, damaged or inconsistent with the others.
    """
    folder = find_bundle(folder)
    while True:
        info = read_info(folder)
        try:
            bundle = _load(folder, info)
            if verify:
                verify_reference_outputs(bundle)
        except BundleError:
            if read_info(folder) == info:
                raise
        else:
            if read_info(folder) == info:
                return bundle
        # The bundle was replaced while it was read: read it again.


def _load(folder: Path, info: BundleInfo) -> Bundle:
    with ThreadPoolExecutor() as pool:
        checks = [pool.submit(_check_file, folder / name, expected) for name, expected in info.files.items()]
        for check in checks:
            check.result()
    tensors = read_tensors(folder / WEIGHTS)
    if info.model.depth * max(1, len(info.ensemble)) > len(tensors):  # before building that many layers
        raise BundleError(
            f"{folder / WEIGHTS} has {len(tensors):,} tensors, but the model in {INFO} has {info.model.depth:,} "
            "layers: the files are from different bundles; copy the folder again"
        )
    model = build_model(info)
    load_weights(model, tensors, str(folder / WEIGHTS))
    for one in model.get_models() if isinstance(model, Ensemble) else [model]:
        align_parameters(one.pool)
        align_parameters(one.mlp_head)
    calibration_tensors = read_tensors(folder / CALIBRATION) if CALIBRATION in info.files else {}
    return Bundle(folder, info, model.eval(), calibration_tensors)


def build_model(info: BundleInfo) -> MegaVit | Ensemble:
    """Return the model of a bundle on the meta device, without weights."""
    with torch.device("meta"):
        if info.ensemble:
            return Ensemble.from_config(info.model, info.ensemble, info.target)
        model = MegaVit.from_config(info.model)
        if info.head_parts:
            model.set_submodule("mlp_head", SplitLinear(info.model.pooled_dim, info.head_parts))
        if info.cosine_dim:
            head = CosineHead(info.model.pooled_dim, info.cosine_dim, info.model.num_classes)
            model.set_submodule("mlp_head", head)
        return model


def _check_file(path: Path, expected: str) -> None:
    if not path.is_file():
        raise BundleError(f"the bundle {path.parent} has no {path.name}: copy the folder again")
    try:
        found = sha256(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from None
    if found != expected:
        raise BundleError(f"{path} is damaged, as its SHA-256 does not match: copy it again")


def is_bundle(folder: Path) -> bool:
    """Return whether there is a bundle in `folder` or `folder/bundle`."""
    return any((candidate / INFO).is_file() for candidate in (folder, folder / "bundle"))


def find_bundle(folder: Path) -> Path:
    for candidate in (folder, folder / "bundle"):
        if (candidate / INFO).is_file():
            return candidate
    if not folder.exists():
        raise BundleError(f"{folder} does not exist; a bundle is a folder written by megavit train")
    raise BundleError(f"{folder} is not a bundle, as it has no {INFO}; a bundle is a folder written by megavit train")


def read_info(folder: Path) -> BundleInfo:
    path = folder / INFO
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from None
    table = parse_json(text, str(path), BundleError)
    if isinstance(table.get("format"), int) and table["format"] > FORMAT:
        raise BundleError(f"{path} has format {table['format']}, newer than the supported {FORMAT}: update megavit")
    if table.pop("sha256", None) != _checksum(table):
        raise BundleError(f"{path} is damaged, as its SHA-256 does not match: copy the folder again")
    try:
        info = from_dict(BundleInfo, table, str(path))
    except ConfigError as error:
        raise BundleError(str(error)) from None
    for name in (WEIGHTS, REFERENCE, SAMPLES):
        if name not in info.files:
            raise BundleError(f"{path} does not list {name} among its files")
    for name in info.files:
        if Path(name).name != name:
            raise BundleError(f"{path} lists {name!r}, which is not a file of the bundle")
    return info


def _checksum(table: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


def read_reference_images(folder: Path) -> list[Tensor]:
    """Return the reference images of the bundle in `folder`, uint8 (C, height, width), or raise a BundleError."""
    tensors = read_tensors(folder / REFERENCE)
    return [tensors[f"image.{i}"] for i in range(len(tensors) - 1)]


def verify_reference_outputs(bundle: Bundle) -> None:
    """Raise a BundleError unless the model reproduces the reference images' logits."""
    reference = read_tensors(bundle.folder / REFERENCE)
    try:
        expected = reference.pop("logits")
        images = [reference[f"image.{i}"] for i in range(len(reference))]
        found = _logits(bundle.model, bundle.info.preprocessing, images)
        if found.shape != expected.shape:
            raise ValueError(f"{tuple(expected.shape)} logits for {len(images)} images")
    except NotImplementedError:
        raise  # the device lacks an operation
    except (KeyError, ValueError, RuntimeError) as error:
        raise BundleError(
            f"{bundle.folder / REFERENCE} does not contain reference images and their logits: {error}"
        ) from None
    worst = (found - expected).abs().max().item()
    if not worst <= REFERENCE_TOLERANCE * max(1.0, expected.abs().max().item()):
        raise BundleError(
            f"the bundle {bundle.folder} does not reproduce its reference outputs: logits differ by {worst:.2g}"
        )


@torch.no_grad()
def _logits(model: MegaVit | Ensemble, preprocessing: Preprocessing, images: Sequence[Tensor]) -> Tensor:
    preprocessed = []
    for image in images:
        _, height, width = image.shape
        preprocessed.append(preprocess(image, preprocessing.size_for(height, width), preprocessing))
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    batch = to_device(normalize(make_batch(preprocessed, preprocessing), preprocessing), device)
    logits = model(batch).float().cpu()
    model.train(was_training)
    return logits
