"""Answers for a batch of images: ours and the peers', in PyTorch, ONNX Runtime and OpenVINO."""

import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

from megavit.bench.case import OURS, Case, measure
from megavit.bench.peers import installed, suits
from megavit.bench.runtimes import in_onnxruntime, in_openvino
from megavit.config.preprocessing import Preprocessing
from megavit.config.vit import ViTConfig
from megavit.data.augment import normalize
from megavit.engine.engine import Engine, Precision
from megavit.model.statistics import forward_flops
from megavit.model.vit import MegaVit
from megavit.runtime.device import has_bfloat16

# For int8 there is none: PyTorch has no product of integers that is as fast as OpenVINO's.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": None}
# In other runtimes the peers' graphs are alike: one of them stands for all.
FOR_ALL = "timm"

Run = Callable[[], object]


def inference(
    name: str, config: ViTConfig, batch: int, precision: Precision, device: torch.device, seconds: float, quick: bool
) -> Case:
    """Time one batch: ours from uint8 pixels, the peers from floats that are normalized and on the device already."""
    pixels = torch.randint(256, (batch, config.channels, *config.image_hw), dtype=torch.uint8)
    contenders = dict(_ours(config, pixels, precision, device))
    if suits(config):
        contenders |= dict(
            _peers(config, normalize(pixels, preprocessing_of(config)).to(device), precision, device, quick)
        )
    with torch.inference_mode():
        return measure(
            f"{name}, batch {batch}, {precision}",
            contenders,
            images=batch,
            flops=batch * forward_flops(config),
            dtype=DTYPES[precision],
            device=device,
            seconds=seconds,
        )


def preprocessing_of(config: ViTConfig) -> Preprocessing:
    height, width = config.image_hw
    return Preprocessing(height=height, width=width, channels=config.channels)


def _ours(config: ViTConfig, pixels: Tensor, precision: Precision, device: torch.device) -> Iterator[tuple[str, Run]]:
    model = MegaVit.from_config(config).eval().to(device)
    if precision == "int8":
        from megavit.engine.int8 import calibrate

        rounded = Engine(
            model, preprocessing_of(config), precision, calibrate(model, preprocessing_of(config), [pixels])
        )
        yield OURS, lambda: rounded(pixels)
        return
    patient, settled = (Engine(model, preprocessing_of(config), precision) for _ in range(2))
    settled.settle(pixels)
    yield OURS, lambda: settled(pixels)
    yield f"{OURS} in PyTorch", lambda: patient.run_pytorch(pixels)


def _peers(
    config: ViTConfig, images: Tensor, precision: Precision, device: torch.device, quick: bool
) -> Iterator[tuple[str, Run]]:
    """In PyTorch every peer; elsewhere they are alike, and `FOR_ALL` stands for them."""
    if precision == "int8":
        yield from _peers_in_int8(config, images)
        return
    # In bfloat16 the weights are too: faster than autocast, which converts them each time.
    dtype = DTYPES[precision]
    typed = images.to(dtype)
    for name, build in installed(config).items():
        yield f"{name} in PyTorch", partial(build(config).eval().to(device, dtype), typed)
    if FOR_ALL not in installed(config):
        return
    model = installed(config)[FOR_ALL](config).eval()
    if not quick and (device.type == "cuda" or shutil.which("c++")):
        yield f"{FOR_ALL} compiled", partial(torch.compile(deepcopy(model).to(device, dtype)), typed)
    if device.type == "cpu" and find_spec("openvino"):
        yield f"{FOR_ALL} in OpenVINO", partial(in_openvino(model, images, precision), images)
    if device.type == "cpu" and precision == "float32" and find_spec("onnxruntime") and find_spec("onnxscript"):
        yield f"{FOR_ALL} in ONNX Runtime", partial(in_onnxruntime(model, images), images)


def _peers_in_int8(config: ViTConfig, images: Tensor) -> Iterator[tuple[str, Run]]:
    """By what turns a model of the peers into 8-bit integers, where it is installed."""
    if FOR_ALL not in installed(config):
        return
    model = installed(config)[FOR_ALL](config).eval()
    if find_spec("nncf") and find_spec("openvino"):
        rest: Precision = "bfloat16" if has_bfloat16(torch.device("cpu")) else "float32"
        yield f"{FOR_ALL} in OpenVINO, by NNCF", partial(in_openvino(model, images, rest, int8=True), images)
    if find_spec("onnxruntime") and find_spec("onnxscript"):
        yield f"{FOR_ALL} in ONNX Runtime, dynamic", partial(in_onnxruntime(model, images, int8=True), images)
