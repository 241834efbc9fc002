"""Run a model with the faster of PyTorch and OpenVINO."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from operator import attrgetter
from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor

from megavit.config.checks import check_choice
from megavit.config.preprocessing import Preprocessing
from megavit.data.augment import normalize
from megavit.data.image_dataset import Images, to_device
from megavit.errors import ConfigError
from megavit.model.packing import stack_by_grid
from megavit.model.vit import MegaVit
from megavit.runtime.device import has_bfloat16

Precision = Literal["float32", "bfloat16", "int8"]
"""Precision of the matrix products: float32 is exact up to rounding, bfloat16 has 3 digits, int8 has 2."""

PATIENCE_SECONDS = 0.3
"""OpenVINO's graph takes about this long to build, and is built once PyTorch has computed for as long."""
MIN_TURNS, MAX_TURNS = 2, 3  # of which the fastest counts, as other work slows down single ones; more of short batches
MAX_RELATIVE_ERROR = 1e-4  # between PyTorch and OpenVINO in float32; a wrong graph is off by far more


class ModelOutput(NamedTuple):
    """Pooled features (B, D or 2D) and logits (B, classes) of a batch; without a head, the logits are the features."""

    pooled: Tensor
    logits: Tensor


def check_precision(name: str, device: torch.device) -> Precision:
    """Return `name` as a precision, or raise a ConfigError if it is unknown or the device does not support it."""
    check_choice("precision", name, get_args(Precision))
    if name == "bfloat16" and not has_bfloat16(device):
        raise ConfigError("this device does not support bfloat16: use precision float32")
    if name == "int8" and (device.type != "cpu" or find_spec("openvino") is None):
        raise ConfigError("int8 runs only on the CPU and requires openvino: use precision float32")
    return cast(Precision, name)


def fast_precision(device: torch.device) -> Precision:
    """Return bfloat16 if the device multiplies in it without emulation, in about half the time, else float32."""
    return "bfloat16" if has_bfloat16(device) else "float32"


class Engine:
    """A model that runs with PyTorch at first, then with OpenVINO if that gives the same outputs and is faster.

    Changing a weight in place or moving the model discards the OpenVINO graph. Safe to use from several threads.

    Args:
        model: a model on any device, in any mode.
        preprocessing: normalization of the pixels.
        precision: precision of the matrix products.
        bounds: for "int8" only, which always uses OpenVINO: bounds of the layers' inputs, see `megavit.engine.int8`.

    Attributes:
        note: which runtime is used, and why, in one line.
        patience: seconds of computing with PyTorch before OpenVINO is tried.
    """

    def __init__(
        self,
        model: MegaVit,
        preprocessing: Preprocessing,
        precision: Precision = "float32",
        bounds: Sequence[float] | None = None,
    ) -> None:
        self.model, self.preprocessing, self.bounds = model, preprocessing, bounds
        self.precision: Precision = precision
        self.note = ""
        self.patience = PATIENCE_SECONDS
        self._lock = threading.Lock()
        self._process = os.getpid()
        _processes.add(self._process)
        self._reset()
        self._loaded_versions = self._weight_versions()

    @property
    def is_changed(self) -> bool:
        """Whether a weight was changed in place since the engine was created."""
        return self._loaded_versions != self._weight_versions()

    def handle_fork(self) -> None:
        """Switch a forked process to PyTorch in one thread, or raise a ConfigError on a GPU or in int8.

        Must be called before anything is computed, which would wait forever for threads that are not forked.
        """
        if self._process == os.getpid():
            return
        on_gpu = next(self.model.parameters()).device.type != "cpu"
        if on_gpu or self.bounds is not None:
            what = "a GPU" if on_gpu else "int8"
            raise ConfigError(
                f"{what} cannot be used by a process that was forked from one that uses it: load the model in each "
                'process, or start processes with multiprocessing.get_context("spawn")'
            )
        self._lock = threading.Lock()  # a thread of the parent may have held the old lock
        self._reset()
        self._is_decided, self.note = True, "PyTorch, in one thread: this process was forked after the model was loaded"
        self._process = os.getpid()

    def __call__(self, images: Images) -> ModelOutput:
        """Return the output, on the CPU, for uint8 images (B, C, height, width), or a list of (C, height, width)."""
        self.handle_fork()
        if not isinstance(images, list):
            return self._run(images)
        order, stacks = stack_by_grid(images, [(image.shape[1], image.shape[2]) for image in images])
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return ModelOutput(*(torch.cat(parts)[inverse] for parts in zip(*map(self._run, stacks), strict=True)))

    def choose_runtime(self, images: Images, alone: AbstractContextManager[object] | None = None) -> None:
        """Compare PyTorch and OpenVINO on typical `images`, and use the faster one from now on.

        Args:
            alone: entered whenever a run is timed, to keep other threads from computing at the same time.
        """
        images = images[0][None] if isinstance(images, list) else images
        alone = alone or nullcontext()
        self._is_decided = True
        if not self._can_use_openvino():
            return
        try:
            from megavit.engine.openvino import IMAGES_PER_PART, OpenVino

            # As many as are computed at once, in parts of one size: others would be compiled for within the time.
            images = images[: IMAGES_PER_PART * torch.get_num_threads()]
            openvino = OpenVino(self.model, self.preprocessing, self.precision)
            outputs = ModelOutput(*openvino(images))
        except (ImportError, OSError, RuntimeError) as error:
            self.note = f"PyTorch: OpenVINO does not run here ({error})"
            return
        with alone:
            expected, torch_seconds = _timed(self.run_pytorch, images)
        with alone:
            seconds = _timed(openvino, images)[1]
        for turn in range(1, MAX_TURNS):
            if turn >= MIN_TURNS and torch_seconds + seconds > PATIENCE_SECONDS:
                break
            with alone:
                torch_seconds = min(torch_seconds, _timed(self.run_pytorch, images)[1])
            with alone:
                seconds = min(seconds, _timed(openvino, images)[1])
        error = max(_relative_error(a, b) for a, b in zip(outputs, expected, strict=True))
        if self.precision == "float32" and not error <= MAX_RELATIVE_ERROR:
            self.note = f"PyTorch: OpenVINO's outputs differ by {error:.1g} of the largest value"
        elif seconds < torch_seconds:
            self._openvino = openvino
            self.note = f"OpenVINO: {torch_seconds / seconds:.1f} times as fast as PyTorch here"
        else:
            self.note = f"PyTorch: {seconds / torch_seconds:.1f} times as fast as OpenVINO here"

    def _reset(self) -> None:
        self.note = "PyTorch: too little was computed so far to try OpenVINO"
        self._parameters = list(self.model.parameters())
        self._versioned = [parameter for parameter in self._parameters if not parameter.is_inference()]
        self._weights = self._versions()
        self._openvino: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
        self._is_decided = False
        self._seconds = 0.0
        if self.bounds is not None:
            from megavit.engine.openvino import OpenVino

            float_precision = fast_precision(torch.device("cpu"))
            self._openvino = OpenVino(self.model, self.preprocessing, float_precision, self.bounds)
            self._is_decided = True
            self.note = "OpenVINO, in int8"

    def _can_use_openvino(self) -> bool:
        """Return whether OpenVINO can run the model; if not, set `note` to the reason."""
        if next(self.model.parameters()).device.type != "cpu":
            self.note = "PyTorch: the model is on a GPU"
            return False
        if find_spec("openvino") is None:
            self.note = "PyTorch: OpenVINO, which is faster on most processors, is not installed"
            return False
        from megavit.engine.graph import can_build

        if not can_build(self.model):
            self.note = "PyTorch: the model has a layer that only PyTorch supports"
            return False
        return True

    def _versions(self) -> tuple[int, ...]:
        return (self._parameters[0].data_ptr(), *self._weight_versions())

    def _weight_versions(self) -> tuple[int, ...]:
        return tuple(map(_get_version, self._versioned))

    def _run(self, images: Tensor) -> ModelOutput:
        with self._lock:
            if self._weights != self._versions():
                self._reset()
            if not self._is_decided and self._seconds > self.patience:
                self.choose_runtime(images)
            openvino = self._openvino
        if openvino is not None:
            return ModelOutput(*openvino(images))
        start = time.perf_counter()
        outputs = self.run_pytorch(images)
        self._seconds += time.perf_counter() - start
        return outputs

    def run_pytorch(self, images: Tensor) -> ModelOutput:
        """Return the output for uint8 images (B, C, height, width), computed by PyTorch."""
        device = next(self.model.parameters()).device
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, self.precision == "bfloat16"):
                x = normalize(to_device(images, device), self.preprocessing)
                pooled = self.model.pooled(x)
                return ModelOutput(pooled.float().cpu(), self.model.mlp_head(pooled).float().cpu())
        finally:
            self.model.train(was_training)


_get_version = attrgetter("_version")

_processes: set[int] = set()  # IDs of this process and its ancestors that have created an engine


def _after_fork() -> None:
    """Use one thread in a forked child, which would otherwise wait for its parent's threads."""
    if _processes:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


def _timed(compute: Callable[[Tensor], tuple[Tensor, Tensor]], images: Tensor) -> tuple[tuple[Tensor, Tensor], float]:
    start = time.perf_counter()
    return compute(images), time.perf_counter() - start


def _relative_error(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item() / max(b.abs().max().item(), 1e-30)
