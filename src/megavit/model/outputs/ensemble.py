"""Average the calibrated outputs of several models of the same design."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from megavit.config.calibration import Calibration
from megavit.config.ensemble import Member
from megavit.config.target import Target
from megavit.config.vit import ViTConfig
from megavit.model.outputs.logits import logits_to_outputs, outputs_to_logits
from megavit.model.vit import MegaVit


class Ensemble(nn.Module):
    """Several models of the same config, whose calibrated probabilities, or scores, are averaged.

    Args:
        models: the models, in the order of `members`.
        members: calibration of each model.
        target: meaning of the logits of the ensemble.
    """

    def __init__(self, models: Sequence[MegaVit], members: Sequence[Member], target: Target) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.members, self.target = tuple(members), target

    @classmethod
    def from_config(cls, config: ViTConfig, members: Sequence[Member], target: Target) -> "Ensemble":
        """Return an ensemble of models with this config."""
        return cls([MegaVit.from_config(config) for _ in members], members, target)

    def get_models(self) -> list[MegaVit]:
        """Return the models, in the order of `members`."""
        return [model for model in self.models if isinstance(model, MegaVit)]

    def forward(self, images: Tensor | list[Tensor]) -> Tensor:
        """Return logits (B, outputs) whose outputs, uncalibrated, are the means of those of the models."""
        return self.combine([model(images) for model in self.models])

    def combine(self, logits: Sequence[Tensor]) -> Tensor:
        """Return the logits of the ensemble from those of each model, (B, outputs) each."""
        outputs = [
            logits_to_outputs(
                values.float(),
                Target(kind=self.target.kind, mean=member.mean, std=member.std),
                Calibration(temperature=member.temperature, smoothing=member.smoothing),
            )
            for values, member in zip(logits, self.members, strict=True)
        ]
        return outputs_to_logits(torch.stack(outputs).mean(dim=0), self.target)
