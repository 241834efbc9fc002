"""A trained MegaVit on OpenVINO's runtime: the same answers on a CPU, up to rounding, in half of PyTorch's time."""

import threading
from collections.abc import Sequence

import openvino as ov
import torch
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.engine.graph import PIXELS, build, plain_product
from megavit.engine.inputs import Arrays, Inputs
from megavit.engine.int8 import Quantised
from megavit.engine.signal_stack import keeping_signal_stack
from megavit.model.vit import MegaVit

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVino:
    """The pooled features and logits of batches of images; safe to use from several threads.

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
            self._graph = build(model, preprocessing, plain_product if bounds is None else Quantised(bounds))
        self._settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._compiled: dict[tuple[int, ...] | None, ov.CompiledModel] = {}
        self._lock = threading.Lock()
        self._own = threading.local()

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, C, height, width) -> features (B, D) and logits (B, classes), float32."""
        inputs = self._inputs(images)
        with keeping_signal_stack():
            request = self._request(inputs)
            request.infer(inputs, share_inputs=True)
        # The next images of this thread overwrite them.
        pooled, logits = (torch.from_numpy(request.get_output_tensor(place).data.copy()) for place in (0, 1))
        return pooled, logits

    def __del__(self) -> None:
        with keeping_signal_stack():
            self.__dict__.clear()

    def _request(self, inputs: Arrays) -> ov.InferRequest:
        """This thread's own, of the graph compiled for these shapes alone if they were the first, else for any."""
        shape = inputs[PIXELS].shape
        with self._lock:
            if not self._compiled and not self._is_mistaken(shape[1]):
                self._compiled[shape] = self._compile(inputs)
            key = shape if shape in self._compiled else None
            if key not in self._compiled:
                self._compiled[key] = self._compile(None)
            compiled = self._compiled[key]
        requests = self._own.__dict__.setdefault("requests", {})
        if key not in requests:
            requests[key] = compiled.create_infer_request()
        return requests[key]

    def _is_mistaken(self, patches: int) -> bool:
        """Whether OpenVINO (2026.4) answers wrongly where it knows all sizes: it takes heads for tokens.

        With as many heads as tokens, exchanging the two axes leaves the shape as it is, and is left out.
        """
        return self._config.heads in (patches, patches + self._config.num_prefix_tokens)

    def _compile(self, inputs: Arrays | None) -> ov.CompiledModel:
        graph = self._graph
        if inputs is not None:
            graph = graph.clone()
            graph.reshape({name: list(array.shape) for name, array in inputs.items()})
        return ov.Core().compile_model(graph, "CPU", self._settings)
