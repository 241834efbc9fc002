"""Run the models of an ensemble, each with the faster of PyTorch and OpenVINO."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.data.image_dataset import Images
from megavit.engine.engine import Engine, ModelOutput, Precision
from megavit.model.outputs.ensemble import Ensemble


class EnsembleEngine:
    """An engine for each model of an ensemble; the features are those of the first model.

    It has the methods and attributes of `Engine` that predictors use. Safe to use from several threads.
    """

    def __init__(self, ensemble: Ensemble, preprocessing: Preprocessing, precision: Precision = "float32") -> None:
        self.ensemble, self.preprocessing, self.precision = ensemble, preprocessing, precision
        self.engines = [Engine(model, preprocessing, precision) for model in ensemble.get_models()]

    @property
    def note(self) -> str:
        """Which runtime is used by the first model, and why, in one line."""
        return self.engines[0].note

    @property
    def patience(self) -> float:
        """Seconds of computing with PyTorch before OpenVINO is tried."""
        return self.engines[0].patience

    @patience.setter
    def patience(self, seconds: float) -> None:
        for engine in self.engines:
            engine.patience = seconds

    @property
    def is_changed(self) -> bool:
        """Whether a weight was changed in place since the engine was created."""
        return any(engine.is_changed for engine in self.engines)

    def handle_fork(self) -> None:
        """As in `Engine`, for each model."""
        for engine in self.engines:
            engine.handle_fork()

    def choose_runtime(self, images: Images, alone: AbstractContextManager[object] | None = None) -> None:
        """As in `Engine`, for each model."""
        for engine in self.engines:
            engine.choose_runtime(images, alone)

    def __call__(self, images: Images) -> ModelOutput:
        """Return the features of the first model and the logits of the ensemble, on the CPU: see `Engine`."""
        return self._combine([engine(images) for engine in self.engines])

    def run_pytorch(self, images: Tensor) -> ModelOutput:
        """Return the output for uint8 images (B, C, height, width), computed by PyTorch."""
        return self._combine([engine.run_pytorch(images) for engine in self.engines])

    def _combine(self, outputs: list[ModelOutput]) -> ModelOutput:
        with torch.no_grad():
            return ModelOutput(outputs[0].pooled, self.ensemble.combine([output.logits for output in outputs]))
