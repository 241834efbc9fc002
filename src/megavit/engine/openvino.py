"""A trained MegaVit on OpenVINO's runtime: the same answers on a CPU, up to rounding, in half of PyTorch's time."""

import os
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import openvino as ov
import torch
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.engine.compile import compile_for_cpu
from megavit.engine.forked import never_free
from megavit.engine.graph import PIXELS, build, plain_product
from megavit.engine.inputs import Arrays, Inputs
from megavit.engine.int8 import Quantized
from megavit.engine.signal_stack import keeping_signal_stack
from megavit.model.vit import MegaVit

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
# Images for each processor, at least, where each computes a part.
LEAST_PART = 4


class OpenVino:
    """The pooled features and logits of batches of images; safe to use from several threads.

    Few images are computed one after the other by all processors; of many, each processor computes a part, which spares
    them waiting for each other.

    Args:
        model: on the CPU; what it is now is compiled, later changes are not seen.
        preprocessing: the images'.
        precision: of the matrix products.
        bounds: of the layers' inputs, as `megavit.engine.int8.calibrate` finds them; given, the layers multiply 8-bit
            integers, and `precision` is of the rest.
    """

    def __init__(
        self, model: MegaVit, preprocessing: Preprocessing, precision: str, bounds: Sequence[float] | None = None
    ) -> None:
        self._config = model.config
        self._inputs = Inputs(model, preprocessing)
        with torch.no_grad():
            self._graph = build(model, preprocessing, plain_product if bounds is None else Quantized(bounds))
        self._precision, self._threads = PRECISIONS[precision], torch.get_num_threads()
        self._compiled: dict[Key, ov.CompiledModel] = {}
        self._lock = threading.Lock()
        self._own = threading.local()
        self._process = os.getpid()

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, C, height, width) -> features (B, D) and logits (B, classes), float32."""
        divided = self._threads > 1 and len(images) >= LEAST_PART * self._threads
        inputs = [self._inputs(part) for part in (images.tensor_split(self._threads) if divided else [images])]
        with keeping_signal_stack():
            requests = [self._request(part, place, divided) for place, part in enumerate(inputs)]
            if divided:
                for request, part in zip(requests, inputs, strict=True):
                    request.start_async(part, share_inputs=True)
                for request in requests:
                    request.wait()
            else:
                requests[0].infer(inputs[0], share_inputs=True)
        # The next images of this thread overwrite them.
        answers = ([request.get_output_tensor(place).data for request in requests] for place in (0, 1))
        pooled, logits = (torch.from_numpy(np.concatenate(parts)) for parts in answers)
        return pooled, logits

    def __del__(self) -> None:
        if self.__dict__.get("_process") != os.getpid():
            never_free(self.__dict__)
            return
        with keeping_signal_stack():
            self.__dict__.clear()

    def _request(self, inputs: Arrays, place: int, divided: bool) -> ov.InferRequest:
        """This thread's own for a part in that place."""
        key = self._key(inputs, divided)
        requests = self._own.__dict__.setdefault("requests", {})
        if (key, place) not in requests:
            requests[key, place] = self._compiled[key].create_infer_request()
        return requests[key, place]

    def _key(self, inputs: Arrays, divided: bool) -> "Key":
        """Of the graph compiled for these shapes alone if they were the first, else of one for any."""
        shape = inputs[PIXELS].shape
        with self._lock:
            first = all(key.divided != divided for key in self._compiled)
            fixed, free = Key(shape, divided), Key(None, divided)
            key = fixed if fixed in self._compiled or (first and not self._is_mistaken(shape[1])) else free
            if key not in self._compiled:
                self._compiled[key] = self._compile(inputs if key == fixed else None, divided)
        return key

    def _is_mistaken(self, patches: int) -> bool:
        """Whether OpenVINO (2026.4) answers wrongly where it knows all sizes: it takes heads for tokens.

        With as many heads as tokens, exchanging the two axes leaves the shape as it is, and is left out.
        """
        return self._config.heads in (patches, patches + self._config.num_prefix_tokens)

    def _compile(self, inputs: Arrays | None, divided: bool) -> ov.CompiledModel:
        graph = self._graph
        if inputs is not None:
            graph = graph.clone()
            graph.reshape({name: list(array.shape) for name, array in inputs.items()})
        settings = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": self._threads if divided else 1,
            "PERFORMANCE_HINT": "THROUGHPUT" if divided else "LATENCY",
        }
        return compile_for_cpu(graph, settings)


class Key(NamedTuple):
    """Of a compiled graph: the shape of its pixels, any where it is None, and whether each processor has a part."""

    shape: tuple[int, ...] | None
    divided: bool
