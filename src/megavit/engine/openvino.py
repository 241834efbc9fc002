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
from megavit.engine.graph import PIXELS, build, linear
from megavit.engine.graph_inputs import Arrays, GraphInputs
from megavit.engine.int8 import QuantizedLinear
from megavit.engine.openvino_runtime import compile_for_cpu, never_free, preserve_signal_stack
from megavit.model.vit import MegaVit

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
MIN_IMAGES_PER_STREAM = 4
IMAGES_PER_PART = 8
"""Images that a stream computes at once if there are enough. Of more parts than streams, a stream that is held up by
another program computes fewer (`benchmarks.speed.batch_parts`)."""


class GraphKey(NamedTuple):
    """The pixels' shape of a compiled graph (None for any), and whether batches are split among processors."""

    shape: tuple[int, ...] | None
    is_split: bool


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
        self._thread_local = threading.local()
        self._process = os.getpid()

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return float32 features (B, D or 2D) and logits (B, classes) of uint8 images (B, C, height, width)."""
        is_split = self._threads > 1 and len(images) >= MIN_IMAGES_PER_STREAM * self._threads
        parts = self._threads * max(1, len(images) // (IMAGES_PER_PART * self._threads)) if is_split else 1
        inputs = [self._inputs(part) for part in images.tensor_split(parts)]
        with preserve_signal_stack():
            requests = [self._request(part, index, is_split) for index, part in enumerate(inputs)]
            if is_split:
                for request, part in zip(requests, inputs, strict=True):
                    request.start_async(part, share_inputs=True)
                for request in requests:
                    request.wait()
            else:
                requests[0].infer(inputs[0], share_inputs=True)
        # Copied, because this thread's next call overwrites the outputs.
        outputs = ([request.get_output_tensor(index).data for request in requests] for index in (0, 1))
        pooled, logits = (torch.from_numpy(np.concatenate(parts)) for parts in outputs)
        return pooled, logits

    def __del__(self) -> None:
        if os is None:  # the process ends, and modules are cleared
            return
        if self.__dict__.get("_process") != os.getpid():
            never_free(self.__dict__)
            return
        with preserve_signal_stack():
            self.__dict__.clear()

    def _request(self, inputs: Arrays, index: int, is_split: bool) -> ov.InferRequest:
        key = self._key(inputs, is_split)
        requests = self._thread_local.__dict__.setdefault("requests", {})
        if (key, index) not in requests:
            requests[key, index] = self._compiled[key].create_infer_request()
        return requests[key, index]

    def _key(self, inputs: Arrays, is_split: bool) -> GraphKey:
        """Return the key of a graph compiled for these shapes if they came first, else of one for any shapes."""
        shape = inputs[PIXELS].shape
        with self._lock:
            is_first = all(key.is_split != is_split for key in self._compiled)
            fixed, dynamic = GraphKey(shape, is_split), GraphKey(None, is_split)
            key = fixed if fixed in self._compiled or (is_first and not self._has_axis_bug(shape[1])) else dynamic
            if key not in self._compiled:
                self._compiled[key] = self._compile(inputs if key == fixed else None, is_split)
        return key

    def _has_axis_bug(self, patches: int) -> bool:
        """Return whether OpenVINO (2026.4) would drop a transpose, as it does for as many heads as tokens."""
        tokens = {patches, patches + self._config.has_class_token, patches + self._config.num_prefix_tokens}
        return self._config.heads in tokens

    def _compile(self, inputs: Arrays | None, is_split: bool) -> ov.CompiledModel:
        graph = self._graph
        if inputs is not None:
            graph = graph.clone()
            graph.reshape({name: list(array.shape) for name, array in inputs.items()})
        settings = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": self._threads if is_split else 1,
            "PERFORMANCE_HINT": "THROUGHPUT" if is_split else "LATENCY",
        }
        return compile_for_cpu(graph, settings)
