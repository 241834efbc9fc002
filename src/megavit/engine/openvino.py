"""Run a trained MegaVit with OpenVINO, which on a CPU takes about half of PyTorch's time."""

import os
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import openvino as ov
import torch
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.engine.graph import PIXELS, POSITIONS, build, linear
from megavit.engine.graph_inputs import Arrays, GraphInputs
from megavit.engine.int8 import QuantizedLinear
from megavit.engine.openvino_runtime import compile_for_cpu, never_free, preserve_signal_stack, thread_settings
from megavit.model.vit import MegaVit

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
MIN_IMAGES_PER_STREAM = 4
IMAGES_PER_PART = 8
"""Images that a stream computes at once if there are enough. Of more parts than streams, a stream that is held up by
another program computes fewer (`benchmarks.speed.batch_parts`)."""
ANY_NUMBER = -1  # of images in a batch, as OpenVINO writes it


class GraphKey(NamedTuple):
    """The images that a graph is compiled for, and whether batches are split among processors.

    `shape` is that of the images, with `ANY_NUMBER` as the first if it may be any; None for all shapes.
    """

    shape: tuple[int, ...] | None
    is_split: bool

    @property
    def is_fixed(self) -> bool:
        """Whether the graph is for one shape alone."""
        return self.shape is not None and self.shape[0] != ANY_NUMBER


class _ThreadLocal(threading.local):
    """The requests of one thread, by graph and index of the part of a batch."""

    def __init__(self) -> None:
        self.requests: dict[tuple[GraphKey, int], ov.InferRequest] = {}


class OpenVino:
    """A compiled model that returns pooled features and logits; safe to use from several threads.

    All processors compute a small batch together; a large batch is split among them, which avoids synchronization.

    Args:
        model: a model on the CPU; later changes of its weights have no effect.
        precision: "float32" or "bfloat16", for all that is not in int8.
        bounds: bounds returned by `megavit.engine.int8.calibrate`, to compute the layers in int8; None for no int8.
    """

    def __init__(
        self, model: MegaVit, preprocessing: Preprocessing, precision: str, bounds: Sequence[float] | None = None
    ) -> None:
        self._config = model.config
        self._inputs = GraphInputs(model, preprocessing)
        with torch.no_grad():
            self._graph = build(model, preprocessing, linear if bounds is None else QuantizedLinear(bounds))
        self._precision, self._threads = PRECISIONS[precision], torch.get_num_threads()
        self._compiled: dict[GraphKey, ov.CompiledModel] = {}
        self._lock = threading.Lock()
        self._thread_local = _ThreadLocal()
        self._process = os.getpid()

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return float32 features (B, D or 2D) and logits (B, classes) of uint8 images (B, C, height, width)."""
        if self._threads == 1 or len(images) < MIN_IMAGES_PER_STREAM * self._threads:
            with preserve_signal_stack():
                request, inputs = self._request(images, 0, is_split=False)
                results = request.infer(inputs, share_inputs=True, share_outputs=True)
                # Copied, because this thread's next call overwrites the outputs.
                pooled, logits = (torch.from_numpy(results[index].copy()) for index in (0, 1))
            return pooled, logits
        parts = images.tensor_split(self._threads * max(1, len(images) // (IMAGES_PER_PART * self._threads)))
        # A graph's streams take parts as they are free; those of two graphs would compute one after the other.
        is_even = len(images) % len(parts) == 0
        with preserve_signal_stack():
            requests = [self._request(part, index, is_split=True, can_fix=is_even) for index, part in enumerate(parts)]
            for request, inputs in requests:
                request.start_async(inputs, share_inputs=True)
            for request, _ in requests:
                request.wait()
        outputs = ([request.get_output_tensor(index).data for request, _ in requests] for index in (0, 1))
        pooled, logits = (torch.from_numpy(np.concatenate(of_parts)) for of_parts in outputs)
        return pooled, logits

    def __del__(self) -> None:
        if os is None:  # the process ends, and modules are cleared
            return
        if self.__dict__.get("_process") != os.getpid():
            never_free(self.__dict__)
            return
        with preserve_signal_stack():
            self.__dict__.clear()

    def _request(
        self, images: Tensor, index: int, *, is_split: bool, can_fix: bool = True
    ) -> tuple[ov.InferRequest, Arrays]:
        """Return this thread's request of that index for such images, and the inputs to give it.

        Args:
            can_fix: whether it may be of a graph for this shape alone.
        """
        inputs, requests = {PIXELS: self._inputs.pixels(images)}, self._thread_local.requests
        request = requests.get((GraphKey(images.shape, is_split), index))
        if request is not None and can_fix:
            return request, inputs
        others = self._inputs.for_shape(images.shape)
        can_fix = can_fix and not self._has_axis_bug(len(others[POSITIONS]))
        key = self._key(images.shape, inputs | others, is_split=is_split, can_fix=can_fix)
        has_others = key.shape is not None  # as they remain the same
        request = requests.get((key, index))
        if request is None:
            request = requests[key, index] = self._compiled[key].create_infer_request()
            if has_others:
                # Copied, as a request does not keep alive what it shared in an earlier call.
                for name, array in others.items():
                    request.set_tensor(name, ov.Tensor(array))
        return request, inputs if has_others else inputs | others

    def _key(self, shape: tuple[int, ...], inputs: Arrays, *, is_split: bool, can_fix: bool) -> GraphKey:
        """Return the key of a graph for this shape alone if it can be and is the first such, else of one for others."""
        # After images of one patch, OpenVINO's (2026.4) graph for all shapes gives wrong answers for larger ones.
        is_one_patch = len(inputs[POSITIONS]) == 1
        fixed = GraphKey(shape, is_split)
        dynamic = GraphKey((ANY_NUMBER, *shape[1:]) if is_one_patch else None, is_split)
        with self._lock:
            is_first = not any(key.is_fixed and key.is_split == is_split for key in self._compiled)
            key = fixed if can_fix and (is_first or fixed in self._compiled) else dynamic
            if key not in self._compiled:
                self._compiled[key] = self._compile(key, inputs)
        return key

    def _has_axis_bug(self, patches: int) -> bool:
        """Return whether OpenVINO (2026.4) would drop a transpose, as it does for as many heads as tokens."""
        tokens = {patches, patches + self._config.has_class_token, patches + self._config.num_prefix_tokens}
        return self._config.heads in tokens

    def _compile(self, key: GraphKey, inputs: Arrays) -> ov.CompiledModel:
        graph = self._graph
        if key.shape is not None:
            shapes = {name: list(array.shape) for name, array in inputs.items()}
            if not key.is_fixed:
                shapes[PIXELS][0] = ANY_NUMBER
            graph = graph.clone()
            graph.reshape(shapes)
        if key.is_split:
            # Not pinned to processors, a stream that shares its own with another program moves to one that is idle.
            settings = {
                "PERFORMANCE_HINT": "THROUGHPUT",
                "NUM_STREAMS": self._threads,
                "INFERENCE_NUM_THREADS": self._threads,
                "ENABLE_CPU_PINNING": False,
            }
        else:
            settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1} | thread_settings(self._threads)
        return compile_for_cpu(graph, settings | {"INFERENCE_PRECISION_HINT": self._precision})
