"""Run a trained MegaVit with OpenVINO: the same outputs on a CPU, up to rounding, in half of PyTorch's time."""

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


class GraphKey(NamedTuple):
    """Which compiled graph: the shape of its pixels (None: any), and whether the batch is split among processors."""

    shape: tuple[int, ...] | None
    is_split: bool


class OpenVino:
    """Pooled features and logits of batches of images; safe to use from several threads.

    A small batch is computed by all processors together; a large one is split among them, so that they do not wait for
    each other.

    Args:
        model: on the CPU; it is compiled as it is now, and later changes have no effect.
        preprocessing: the images'.
        precision: of the matrix products.
        bounds: of the layers' inputs, as `megavit.engine.int8.calibrate` returns them: the layers are computed in int8,
            and `precision` is of the rest.
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
        """Return features (B, D) and logits (B, classes) of uint8 (B, C, height, width), float32."""
        is_split = self._threads > 1 and len(images) >= MIN_IMAGES_PER_STREAM * self._threads
        inputs = [self._inputs(part) for part in (images.tensor_split(self._threads) if is_split else [images])]
        with preserve_signal_stack():
            requests = [self._request(part, index, is_split) for index, part in enumerate(inputs)]
            if is_split:
                for request, part in zip(requests, inputs, strict=True):
                    request.start_async(part, share_inputs=True)
                for request in requests:
                    request.wait()
            else:
                requests[0].infer(inputs[0], share_inputs=True)
        # Copied, as the next call of this thread overwrites them.
        outputs = ([request.get_output_tensor(index).data for request in requests] for index in (0, 1))
        pooled, logits = (torch.from_numpy(np.concatenate(parts)) for parts in outputs)
        return pooled, logits

    def __del__(self) -> None:
        if self.__dict__.get("_process") != os.getpid():
            never_free(self.__dict__)
            return
        with preserve_signal_stack():
            self.__dict__.clear()

    def _request(self, inputs: Arrays, index: int, is_split: bool) -> ov.InferRequest:
        """Return this thread's own request for the part `index` of a batch."""
        key = self._key(inputs, is_split)
        requests = self._thread_local.__dict__.setdefault("requests", {})
        if (key, index) not in requests:
            requests[key, index] = self._compiled[key].create_infer_request()
        return requests[key, index]

    def _key(self, inputs: Arrays, is_split: bool) -> GraphKey:
        """Return the key of the graph compiled for these shapes if they were the first, else of one for any."""
        shape = inputs[PIXELS].shape
        with self._lock:
            is_first = all(key.is_split != is_split for key in self._compiled)
            fixed, dynamic = GraphKey(shape, is_split), GraphKey(None, is_split)
            key = fixed if fixed in self._compiled or (is_first and not self._has_axis_bug(shape[1])) else dynamic
            if key not in self._compiled:
                self._compiled[key] = self._compile(inputs if key == fixed else None, is_split)
        return key

    def _has_axis_bug(self, patches: int) -> bool:
        """Return whether OpenVINO (2026.4) would confuse heads and tokens in a graph of fixed shapes.

        With as many heads as tokens, it drops the transpose of the two axes, which does not change the shape.
        """
        return self._config.heads in (patches, patches + self._config.num_prefix_tokens)

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
