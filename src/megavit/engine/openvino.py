"""A trained MegaVit on OpenVINO's runtime: the same answers on a CPU, up to rounding, in half of PyTorch's time."""

import threading

import numpy as np
import openvino as ov
import torch
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.data.augment import normalise
from megavit.engine.graph import COSINES, PIXELS, POSITIONS, SINES, build
from megavit.model.vit import MegaVit

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVino:
    """The pooled features and logits of batches of images; safe to use from several threads.

    Between runs of the graph nothing is done with PyTorch on several threads: those would go on spinning for work, and
    keep the cores from OpenVINO's.

    Args:
        model: on the CPU; what it is now is compiled, later changes are not seen.
        preprocessing: the images'.
        precision: of the matrix products.
    """

    def __init__(self, model: MegaVit, preprocessing: Preprocessing, precision: str) -> None:
        self._model, self._preprocessing = model, preprocessing
        with torch.no_grad():
            self._graph = build(model, preprocessing)
        self._settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._of_grid: dict[tuple[int, int], dict[str, np.ndarray]] = {}
        self._compiled: dict[tuple[int, ...] | None, ov.CompiledModel] = {}
        self._lock = threading.Lock()
        self._own = threading.local()

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, C, height, width) -> features (B, D) and logits (B, classes), float32."""
        (height, width), (patch_height, patch_width) = images.shape[2:], self._model.config.patch_hw
        grid = (height // patch_height, width // patch_width)
        inputs = {PIXELS: self._pixels(images, grid)} | self._decided_by(grid)
        request = self._request(tuple(inputs[PIXELS].shape), inputs)
        request.infer(inputs, share_inputs=True)
        # The next images of this thread overwrite them.
        pooled, logits = (torch.from_numpy(request.get_output_tensor(place).data.copy()) for place in (0, 1))
        return pooled, logits

    def _pixels(self, images: Tensor, grid: tuple[int, int]) -> np.ndarray:
        part = self._model.patch_embedding
        if part.overlap:
            return part.pixels(normalise(images, self._preprocessing)).contiguous().numpy()
        (rows, columns), (height, width) = grid, part.patch_hw
        divided = images.numpy().reshape(len(images), part.channels, rows, height, columns, width)
        return divided.transpose(0, 2, 4, 1, 3, 5).reshape(len(images), rows * columns, -1)

    @torch.no_grad()
    def _decided_by(self, grid: tuple[int, int]) -> dict[str, np.ndarray]:
        """The inputs that a grid alone decides."""
        if grid not in self._of_grid:
            config = self._model.config
            positions, rotation = self._model.positions(torch.zeros(1, grid[0] * grid[1], config.dim), grid)
            inputs = {POSITIONS: positions[0]}
            if rotation is not None:
                prefix = torch.zeros(config.num_prefix_tokens, config.dim_head)
                inputs |= {COSINES: torch.cat([prefix + 1, rotation.cos]), SINES: torch.cat([prefix, rotation.sin])}
            self._of_grid[grid] = {name: tensor.contiguous().numpy() for name, tensor in inputs.items()}
        return self._of_grid[grid]

    def _request(self, shape: tuple[int, ...], inputs: dict[str, np.ndarray]) -> ov.InferRequest:
        """This thread's own, of the graph compiled for `shape` alone if it was the first, else for any."""
        with self._lock:
            if not self._compiled and not self._is_mistaken(shape[1]):
                self._compiled[shape] = self._compile({name: list(array.shape) for name, array in inputs.items()})
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
        return self._model.config.heads in (patches, patches + self._model.config.num_prefix_tokens)

    def _compile(self, shapes: dict[str, list[int]] | None) -> ov.CompiledModel:
        graph = self._graph
        if shapes is not None:
            graph = graph.clone()
            graph.reshape(shapes)
        return ov.Core().compile_model(graph, "CPU", self._settings)
