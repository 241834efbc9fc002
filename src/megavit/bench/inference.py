"""Benchmark inference of megavit and its peers in PyTorch, ONNX Runtime and OpenVINO."""

import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

from megavit.bench.case import OURS, Case, run_case
from megavit.bench.instructions import read_limits
from megavit.bench.peers import fits_peers, get_installed_peers
from megavit.bench.runtimes import to_onnxruntime, to_openvino
from megavit.config.preprocessing import Preprocessing
from megavit.config.vit import ViTConfig
from megavit.data.augment import normalize
from megavit.engine.engine import Engine, Precision, fast_precision
from megavit.model.statistics import forward_flops
from megavit.model.vit import MegaVit

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": None}  # PyTorch has no int8 product to compare
REPRESENTATIVE = "timm"  # the only peer measured in other runtimes, where the peers' graphs are alike

Run = Callable[[], object]


def benchmark_inference(
    name: str, config: ViTConfig, batch: int, precision: Precision, *, device: torch.device, seconds: float, quick: bool
) -> Case:
    """Time one batch: megavit from uint8 pixels, the peers from normalized floats already on the device."""
    pixels = torch.randint(256, (batch, config.channels, *config.image_hw), dtype=torch.uint8)
    contenders = dict(_ours(config, pixels, precision, device))
    if fits_peers(config):
        contenders |= dict(
            _peers(config, normalize(pixels, make_preprocessing(config)).to(device), precision, device, quick=quick)
        )
    with torch.inference_mode():
        return run_case(
            f"{name}, batch {batch}, {precision}",
            contenders,
            images=batch,
            flops=batch * forward_flops(config),
            dtype=DTYPES[precision],
            device=device,
            seconds=seconds,
        )


def make_preprocessing(config: ViTConfig) -> Preprocessing:
    height, width = config.image_hw
    return Preprocessing(height=height, width=width, channels=config.channels)


def _ours(config: ViTConfig, pixels: Tensor, precision: Precision, device: torch.device) -> Iterator[tuple[str, Run]]:
    model = MegaVit.from_config(config).eval().to(device)
    if precision == "int8":
        from megavit.engine.int8 import calibrate

        quantized = Engine(
            model, make_preprocessing(config), precision, calibrate(model, make_preprocessing(config), [pixels])
        )
        yield OURS, lambda: quantized(pixels)
        return
    plain, fastest = (Engine(model, make_preprocessing(config), precision) for _ in range(2))
    fastest.choose_runtime(pixels)
    yield OURS, lambda: fastest(pixels)
    yield f"{OURS} in PyTorch", lambda: plain.run_pytorch(pixels)


def _peers(
    config: ViTConfig, images: Tensor, precision: Precision, device: torch.device, *, quick: bool
) -> Iterator[tuple[str, Run]]:
    if precision == "int8":
        yield from _peers_in_int8(config, images)
        return
    # bfloat16 weights are faster than autocast, which converts them each time.
    dtype = DTYPES[precision]
    typed = images.to(dtype)
    for name, build in get_installed_peers(config).items():
        yield f"{name} in PyTorch", partial(build(config).eval().to(device, dtype), typed)
    if REPRESENTATIVE not in get_installed_peers(config):
        return
    model = get_installed_peers(config)[REPRESENTATIVE](config).eval()
    if not quick and (device.type in ("cuda", "xpu") or (device.type == "cpu" and shutil.which("c++"))):
        yield f"{REPRESENTATIVE} compiled", partial(torch.compile(deepcopy(model).to(device, dtype)), typed)
    if device.type == "cpu" and find_spec("openvino"):
        yield f"{REPRESENTATIVE} in OpenVINO", partial(to_openvino(model, images, precision), images)
    if device.type == "cpu" and precision == "float32" and find_spec("onnxruntime") and find_spec("onnxscript"):
        yield name_onnxruntime(), partial(to_onnxruntime(model, images), images)


def _peers_in_int8(config: ViTConfig, images: Tensor) -> Iterator[tuple[str, Run]]:
    if REPRESENTATIVE not in get_installed_peers(config):
        return
    model = get_installed_peers(config)[REPRESENTATIVE](config).eval()
    if find_spec("nncf") and find_spec("openvino"):
        rest = fast_precision(torch.device("cpu"))
        yield f"{REPRESENTATIVE} in OpenVINO, by NNCF", partial(to_openvino(model, images, rest, int8=True), images)
    if find_spec("onnxruntime") and find_spec("onnxscript"):
        yield name_onnxruntime(", dynamic"), partial(to_onnxruntime(model, images, int8=True), images)


def name_onnxruntime(kind: str = "") -> str:
    """Return the name of ONNX Runtime's contender, with a mark if the others do without some instructions."""
    return f"{REPRESENTATIVE} in ONNX Runtime{kind}" + (", not limited" if read_limits() else "")
