"""Everything of a run that must survive a restart."""

import copy
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from megavit.config.recipe import OptimiserRecipe
from megavit.model.vit import MegaVit
from megavit.parallel.shards import local
from megavit.parallel.team import Alone, Team
from megavit.train.history import EpochRecord
from megavit.train.optimiser import make_optimisers
from megavit.train.spikes import Spikes


@dataclass
class TrainState:
    """A run between two steps. Random numbers are not in here: they follow from the seed and `step`.

    Attributes:
        model: as it is trained.
        average: the moving average of its weights, which is validated and kept.
        optimisers: of `model`, each of its own part.
        step: optimiser steps done, skipped ones included.
        progress: of the run, in [0, 1].
        validated: progress at the last validation.
        skipped: steps whose gradient was not finite, or an outlier, and that changed nothing.
        skipped_in_a_row: of those that were not finite, how many just now.
        loss_sum, loss_steps: since the last validation.
        seconds: since the command began, pauses left out.
        history: a record a validation.
        best: weights of `average` at the best of them so far.
        best_epoch: its index in `history`; None before the first.
        team: the processes that train; model, average, optimisers and best are divided over them as it says.
        wrapped: what computes the forward pass of `model` for a step; None: it does so itself.
        recipe: of the optimisers.
        spikes: the last steps, by which the next is judged.
        rollbacks: how often the run has gone back to an earlier checkpoint, because it had diverged.
        returned_to: the step that it went back to last; 0 where it never did.
        left_out: batches that were not trained on then, and that the order of images is ahead by.
    """

    model: MegaVit
    average: MegaVit
    optimisers: list[torch.optim.Optimizer]
    step: int = 0
    progress: float = 0.0
    validated: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    seconds: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int | None = None
    team: Alone | Team = field(default_factory=Alone)
    wrapped: nn.Module | None = None
    recipe: OptimiserRecipe = field(default_factory=OptimiserRecipe)
    spikes: Spikes = field(default_factory=Spikes)
    rollbacks: int = 0
    returned_to: int = 0
    left_out: int = 0

    @classmethod
    def fresh(cls, model: MegaVit, recipe: OptimiserRecipe, team: Alone | Team | None = None) -> "TrainState":
        """The state before the first step of a whole `model`, the same in every process; None: of one that is alone.

        Of a team that divides it, the model may be on the meta device: its values are to be set then, and those of
        the average, by `begin_average`.
        """
        team = team or Alone()
        average = copy.deepcopy(model)
        wrapped = team.spread(model, trained=True)
        team.spread(average, trained=False)
        optimisers = make_optimisers(model, recipe, team.tensor)
        return cls(model, average, optimisers, team=team, wrapped=wrapped, recipe=recipe)

    @torch.no_grad()
    def begin_average(self) -> None:
        """The average of weights that have not been trained yet: these."""
        for averaged, current in zip(self.average.parameters(), self.model.parameters(), strict=True):
            local(averaged).copy_(local(current))

    def record(self, epoch: EpochRecord) -> None:
        """Add an epoch, and keep its weights if no earlier one was better on the validation images."""
        self.history.append(epoch)
        if self.best_epoch is None or epoch.val_metric >= self.history[self.best_epoch].val_metric:
            self.best_epoch = len(self.history) - 1
            self.best = {name: tensor.detach().clone() for name, tensor in self.average.state_dict().items()}

    def numbers(self) -> dict[str, Any]:
        """All but the tensors, as JSON types."""
        numbers = {name: getattr(self, name) for name in NUMBERS}
        return numbers | {"history": [e.to_dict() for e in self.history], "spikes": asdict(self.spikes)}

    def weights(self) -> dict[str, Tensor]:
        """Those of the model, of their average, and of the best average so far, by name."""
        groups = {"model": self.model.state_dict(), "average": self.average.state_dict(), "best": self.best}
        return {f"{group}.{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}

    def tensors(self) -> dict[str, Tensor]:
        """All the tensors, by name."""
        found = self.weights()
        for number, optimiser in enumerate(self.optimisers):
            for i, slots in optimiser.state_dict()["state"].items():
                found |= {f"optimiser.{number}.{i}.{slot}": tensor for slot, tensor in slots.items()}
        return found

    def restore(self, numbers: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """The reverse of `numbers` and `tensors`, into a fresh state of the same model and recipe."""
        self.take_numbers(numbers)
        self.model.load_state_dict(_group(tensors, "model"))
        self.average.load_state_dict(_group(tensors, "average"))
        device = next(self.model.parameters()).device
        self.best = {name: tensor.to(device) for name, tensor in _group(tensors, "best").items()}
        for number, optimiser in enumerate(self.optimisers):
            slots: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _group(tensors, f"optimiser.{number}").items():
                index, _, slot = name.partition(".")
                slots.setdefault(int(index), {})[slot] = tensor
            optimiser.load_state_dict(optimiser.state_dict() | {"state": slots})

    def take_numbers(self, numbers: dict[str, Any]) -> None:
        """The reverse of `numbers` alone."""
        for name in NUMBERS:
            if name in numbers or name not in LATER_NUMBERS:
                setattr(self, name, numbers[name])
        self.history = [EpochRecord.from_dict(epoch) for epoch in numbers["history"]]
        self.spikes = Spikes(**numbers.get("spikes", {}))


NUMBERS = (
    "step",
    "progress",
    "validated",
    "skipped",
    "skipped_in_a_row",
    "loss_sum",
    "loss_steps",
    "seconds",
    "best_epoch",
    "rollbacks",
    "returned_to",
    "left_out",
)
# Checkpoints of version 0.1 lack them.
LATER_NUMBERS = ("rollbacks", "returned_to", "left_out")


def _group(tensors: dict[str, Tensor], group: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{group}."): t for name, t in tensors.items() if name.startswith(f"{group}.")}
