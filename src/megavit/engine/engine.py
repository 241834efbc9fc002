"""A model's answers by the fastest way that this machine has for it."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor

from megavit.config.checks import check_choice
from megavit.config.preprocessing import Preprocessing
from megavit.data.augment import normalize
from megavit.data.image_dataset import Images
from megavit.errors import ConfigError
from megavit.model.packing import stack_by_grid
from megavit.model.vit import MegaVit
from megavit.runtime.device import has_bfloat16

Precision = Literal["float32", "bfloat16", "int8"]
"""Of the matrix products. float32 is exact up to rounding, bfloat16 is faster and has 3 digits, int8 has 2."""

# PyTorch computes at once; another engine is built, in about this time, when PyTorch has taken as long already.
PATIENCE_SECONDS = 0.3
# Between two engines' float32 arithmetic, of the largest value; a wrong graph is off by far more.
AGREEMENT = 1e-4


class ModelOutput(NamedTuple):
    """Of a batch: pooled features (B, D) and logits (B, classes), the features again for a model without a head."""

    pooled: Tensor
    logits: Tensor


def check_precision(name: str, device: torch.device) -> Precision:
    """The precision of that name.

    Raises:
        ConfigError: for one that is none, or that the device does not multiply.
    """
    check_choice("precision", name, get_args(Precision))
    if name == "bfloat16" and not has_bfloat16(device):
        raise ConfigError("this device has no bfloat16: leave out precision, or take float32")
    if name == "int8" and (device.type != "cpu" or find_spec("openvino") is None):
        raise ConfigError("int8 is for processors, and needs openvino: leave out precision, or take float32")
    return cast(Precision, name)


class Engine:
    """Computes with PyTorch, and with OpenVINO once there is much to do, if it agrees and is faster here.

    It follows the model: when a weight is changed in its place, or the model moves, what was built before is forgotten.
    Safe to use from several threads.

    Args:
        model: on any device; its mode does not matter and is left alone.
        preprocessing: how the images' pixels are normalized.
        precision: of the matrix products.
        bounds: for "int8" alone, of the layers' inputs: see `megavit.engine.int8`. There is nothing to decide then.

    Attributes:
        note: which way it computes, and why, in a line.
        patience: seconds of PyTorch's computing before another engine is tried.
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
        self._begin()
        self._as_loaded = self._changes()

    @property
    def is_changed(self) -> bool:
        """Whether a weight was changed in its place since the model came here."""
        return self._as_loaded != self._changes()

    def notice_fork(self) -> None:
        """Do without the threads that a fork has left behind; to be called before anything is computed.

        A forked process has none of its parent's threads, and waits for ever for PyTorch's (OpenMP's) and OpenVINO's:
        it computes with PyTorch, in one thread.

        Raises:
            ConfigError: where that cannot be: on a GPU, and with int8.
        """
        if self._process == os.getpid():
            return
        on_gpu = next(self.model.parameters()).device.type != "cpu"
        if on_gpu or self.bounds is not None:
            what = "A GPU" if on_gpu else "int8"
            raise ConfigError(
                f"{what} cannot be used by a process that was forked from one that uses it: load the model in each "
                'process, or start them by multiprocessing.get_context("spawn")'
            )
        self._lock = threading.Lock()  # a thread of the parent may have held the old one
        self._begin()
        self._settled, self.note = True, "PyTorch, in one thread: this process was forked after the model was loaded"
        self._process = os.getpid()

    def __call__(self, images: Images) -> ModelOutput:
        """What the model sees in uint8 images (B, C, height, width), or a list of (C, height, width); on the CPU."""
        self.notice_fork()
        if not isinstance(images, list):
            return self._seen(images)
        order, stacks = stack_by_grid(images, [(image.shape[1], image.shape[2]) for image in images])
        place = sorted(range(len(order)), key=order.__getitem__)
        return ModelOutput(*(torch.cat(parts)[place] for parts in zip(*map(self._seen, stacks), strict=True)))

    def settle(self, images: Images) -> None:
        """Decide on `images`, as they are to be computed with, whether OpenVINO computes from now on."""
        images = images[0][None] if isinstance(images, list) else images
        self._settled = True
        if not self._is_possible():
            return
        try:
            from megavit.engine.openvino import OpenVino

            other = OpenVino(self.model, self.preprocessing, self.precision)
            found = ModelOutput(*other(images))
        except (ImportError, OSError, RuntimeError) as error:
            self.note = f"PyTorch: OpenVINO does not run here ({error})"
            return
        (expected, slow), (_, quick) = _timed(self.run_pytorch, images), _timed(other, images)
        apart = max(_apart(a, b) for a, b in zip(found, expected, strict=True))
        if self.precision == "float32" and not apart <= AGREEMENT:
            self.note = f"PyTorch: OpenVINO's answers differ by {apart:.1g} of the largest value"
        elif quick < slow:
            self._fast = other
            self.note = f"OpenVINO: {slow / quick:.1f} times as fast as PyTorch here"
        else:
            self.note = f"PyTorch: {quick / slow:.1f} times as fast as OpenVINO here"

    def _begin(self) -> None:
        self.note = "PyTorch: there was little to do so far"
        self._parameters = list(self.model.parameters())
        self._weights = self._versions()
        self._fast: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
        self._settled = False
        self._seconds = 0.0
        if self.bounds is not None:
            from megavit.engine.openvino import OpenVino

            rest = "bfloat16" if has_bfloat16(torch.device("cpu")) else "float32"
            self._fast, self._settled = OpenVino(self.model, self.preprocessing, rest, self.bounds), True
            self.note = "OpenVINO, by 8-bit integers"

    def _is_possible(self) -> bool:
        """Whether there is another engine to try at all."""
        if next(self.model.parameters()).device.type != "cpu":
            self.note = "PyTorch: on a GPU"
            return False
        if find_spec("openvino") is None:
            self.note = "PyTorch: OpenVINO, which is faster on most processors, is not installed"
            return False
        from megavit.engine.graph import can_build

        if not can_build(self.model):
            self.note = "PyTorch: the model has a part that only PyTorch computes"
            return False
        return True

    def _versions(self) -> tuple[int, ...]:
        """What changes when a weight is set, or the model moves; looked up for every batch, so not by name."""
        return (self._parameters[0].data_ptr(), *self._changes())

    def _changes(self) -> tuple[int, ...]:
        """How often each weight was set in its place."""
        return tuple(0 if weight.is_inference() else weight._version for weight in self._parameters)

    def _seen(self, images: Tensor) -> ModelOutput:
        with self._lock:
            if self._weights != self._versions():
                self._begin()
            if not self._settled and self._seconds > self.patience:
                self.settle(images)
            fast = self._fast
        if fast is not None:
            return ModelOutput(*fast(images))
        began = time.perf_counter()
        seen = self.run_pytorch(images)
        self._seconds += time.perf_counter() - began
        return seen

    def run_pytorch(self, images: Tensor) -> ModelOutput:
        """What the model sees in uint8 images (B, C, height, width), computed by PyTorch."""
        device = next(self.model.parameters()).device
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, self.precision == "bfloat16"):
                x = normalize(images.to(device, non_blocking=True), self.preprocessing)
                pooled = self.model.features(x).pooled
                return ModelOutput(pooled.float().cpu(), self.model.mlp_head(pooled).float().cpu())
        finally:
            self.model.train(was_training)


# That have built an engine, this one or those that it was forked from.
_processes: set[int] = set()


def _after_fork() -> None:
    """In the very thread that has forked, which alone waits for the threads of its parent."""
    if _processes:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork)


def _timed(compute: Callable[[Tensor], tuple[Tensor, Tensor]], images: Tensor) -> tuple[tuple[Tensor, Tensor], float]:
    began = time.perf_counter()
    return compute(images), time.perf_counter() - began


def _apart(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return (a - b).abs().max().item() / max(b.abs().max().item(), 1e-30)
