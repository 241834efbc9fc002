"""Images as the inputs of a model's graph."""

import numpy as np
import torch
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.data.augment import normalize
from megavit.engine.graph import COSINES, PIXELS, POSITIONS, SINES
from megavit.model.vit import MegaVit

Arrays = dict[str, np.ndarray]

MAX_GRIDS = 128
"""Whose positions are remembered: where images keep their aspect, each may have a grid of its own."""


class Inputs:
    """Maps uint8 (B, C, height, width) to the arrays that `megavit.engine.graph.build` names.

    With NumPy: between runs of the graph nothing is done with PyTorch on several threads, which would go on spinning
    for work, and keep the cores from OpenVINO's.

    Args:
        model: on the CPU, as it was when the graph was built.
        preprocessing: the images'.
    """

    def __init__(self, model: MegaVit, preprocessing: Preprocessing) -> None:
        self._model, self._preprocessing = model, preprocessing
        self._of_grid: dict[tuple[int, int], Arrays] = {}

    def __call__(self, images: Tensor) -> Arrays:
        (height, width), (patch_height, patch_width) = images.shape[2:], self._model.config.patch_hw
        grid = (height // patch_height, width // patch_width)
        return {PIXELS: self._pixels(images, grid)} | self.decided_by(grid)

    def _pixels(self, images: Tensor, grid: tuple[int, int]) -> np.ndarray:
        part = self._model.patch_embedding
        if part.overlap:
            return part.pixels(normalize(images, self._preprocessing)).contiguous().numpy()
        (rows, columns), (height, width) = grid, part.patch_hw
        values = images.numpy()
        if self._preprocessing.resize_dtype == "float32":  # levels, which the graph normalizes
            values = values * 255 if values.dtype == np.float32 else values.astype(np.float32)
        divided = values.reshape(len(images), part.channels, rows, height, columns, width)
        return divided.transpose(0, 2, 4, 1, 3, 5).reshape(len(images), rows * columns, -1)

    @torch.no_grad()
    def decided_by(self, grid: tuple[int, int]) -> Arrays:
        """The inputs that a grid alone decides."""
        known = self._of_grid.get(grid)
        if known is not None:
            return known
        config = self._model.config
        positions, rotation = self._model.positions(torch.zeros(1, grid[0] * grid[1], config.dim), grid)
        inputs = {POSITIONS: positions[0]}
        if rotation is not None:
            prefix = torch.zeros(config.num_prefix_tokens, config.dim_head)
            inputs |= {COSINES: torch.cat([prefix + 1, rotation.cos]), SINES: torch.cat([prefix, rotation.sin])}
        found = {name: tensor.contiguous().numpy() for name, tensor in inputs.items()}
        if len(self._of_grid) >= MAX_GRIDS:
            self._of_grid = {}  # as a whole, since other threads may be reading it
        self._of_grid[grid] = found
        return found
