"""Convert images to the inputs of a model's graph."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.engine.graph import COSINES, PIXELS, POSITIONS, SINES
from megavit.model.vit import MegaVit

Arrays = dict[str, np.ndarray]

MAX_CACHED_GRIDS = 128  # images that keep their aspect ratio may all have different grids


class GraphInputs:
    """A function from uint8 images (B, C, height, width) to the inputs of the graph of `megavit.engine.graph.build`.

    It uses NumPy, as PyTorch's threads would slow down OpenVINO's. The model must be on the CPU, and not change.
    """

    def __init__(self, model: MegaVit, preprocessing: Preprocessing) -> None:
        self._model, self._preprocessing = model, preprocessing
        self._cache: dict[tuple[int, int], Arrays] = {}

    def __call__(self, images: Tensor) -> Arrays:
        return {PIXELS: self.pixels(images)} | self.for_shape(images.shape)

    def pixels(self, images: Tensor) -> np.ndarray:
        """Return the pixels as one array in C order: of the patches, or of the images for a stem of convolutions."""
        values = images.numpy()
        if self._preprocessing.resize_dtype == "float32":  # in [0, 255]; the graph normalizes them
            values = values * 255 if values.dtype == np.float32 else values.astype(np.float32)
        if self._model.config.design.stem == "conv":
            return np.ascontiguousarray(values)
        (count, channels, *size), (height, width) = values.shape, self._model.config.patch_hw
        rows, columns = size[0] // height, size[1] // width
        divided = values.reshape(count, channels, rows, height, columns, width).transpose(0, 2, 4, 1, 3, 5)
        return divided.reshape(count, rows * columns, -1)

    @torch.no_grad()
    def for_shape(self, shape: Sequence[int]) -> Arrays:
        """Return the other inputs for images (B, C, height, width) of this shape."""
        height, width = self._model.config.patch_hw
        grid = (shape[2] // height, shape[3] // width)
        cached = self._cache.get(grid)
        if cached is not None:
            return cached
        config = self._model.config
        positions, rotation = self._model.positions(torch.zeros(1, grid[0] * grid[1], config.dim), grid)
        inputs = {POSITIONS: positions[0]}
        if rotation is not None:
            prefix = torch.zeros(config.num_prefix_tokens, config.dim_head)
            inputs |= {COSINES: torch.cat([prefix + 1, rotation.cos]), SINES: torch.cat([prefix, rotation.sin])}
        arrays = {name: tensor.contiguous().numpy() for name, tensor in inputs.items()}
        if len(self._cache) >= MAX_CACHED_GRIDS:
            self._cache = {}  # not cleared, as other threads may be reading it
        self._cache[grid] = arrays
        return arrays
