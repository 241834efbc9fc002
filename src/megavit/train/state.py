"""The state of a run between two steps: everything that must survive a restart."""

import copy
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from megavit.config.recipe import OptimizerRecipe
from megavit.distributed.context import ParallelContext
from megavit.distributed.dtensor_utils import local
from megavit.errors import BundleError
from megavit.model.vit import MegaVit
from megavit.train.checkpoint.state_numbers import StateNumbers
from megavit.train.history import EpochRecord
from megavit.train.optim.optimizer import make_optimizers, update_ema
from megavit.train.spike_detection import SpikeDetector


@dataclass
class TrainState:
    """A run between two steps. Random numbers are not in here: they follow from the seed and `step`.

    Attributes:
        model: as it is trained.
        ema_model: the exponential moving average of its weights, which is validated and kept.
        optimizers: of `model`, each of its own parameters.
        step: optimizer steps done, skipped ones included.
        progress: of the run, in [0, 1].
        validated: progress at the last validation.
        skipped: steps whose gradient was not finite, or an outlier, and that changed nothing.
        skipped_in_a_row: steps up to the last one whose gradient was not finite.
        loss_sum, loss_steps: since the last validation.
        seconds: since the command began, pauses left out.
        history: a record a validation.
        best: weights of `ema_model` at the best validation so far.
        best_epoch: its index in `history`; None before the first.
        parallel: the processes that train; model, ema_model, optimizers and best are divided over them as it says.
        wrapped: the module to call for the forward pass of a step; None: `model` itself.
        recipe: of the optimizers.
        spike_detector: the last steps, by which the next is judged.
        rollbacks: how often the run was rolled back to an earlier checkpoint, because it had diverged.
        rollback_step: the step that it was rolled back to last; 0: never.
        dropped_batches: batches that were left out then, by which the order of images is ahead of `step`.
    """

    model: MegaVit
    ema_model: MegaVit
    optimizers: list[torch.optim.Optimizer]
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
    parallel: ParallelContext = field(default_factory=ParallelContext)
    wrapped: nn.Module | None = None
    recipe: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    spike_detector: SpikeDetector = field(default_factory=SpikeDetector)
    rollbacks: int = 0
    rollback_step: int = 0
    dropped_batches: int = 0

    @classmethod
    def create(cls, model: MegaVit, recipe: OptimizerRecipe, parallel: ParallelContext | None = None) -> "TrainState":
        """Return the state before the first step of a whole `model`, which is the same in every process.

        Where the processes shard it, the model may be on the meta device: its values are to be set then, and those of
        the moving average by `init_ema`.
        """
        parallel = parallel or ParallelContext()
        ema_model = copy.deepcopy(model)
        wrapped = parallel.parallelize(model, trained=True)
        parallel.parallelize(ema_model, trained=False)
        optimizers = make_optimizers(model, recipe, parallel.tp_size)
        return cls(model, ema_model, optimizers, parallel=parallel, wrapped=wrapped, recipe=recipe)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.no_grad()
    def init_ema(self) -> None:
        """Start the moving average at the weights of the model."""
        for averaged, current in zip(self.ema_model.parameters(), self.model.parameters(), strict=True):
            local(averaged).copy_(local(current))

    def update_ema(self, length: float) -> None:
        """Move the average towards the model after a step, as a moving average over about `length` steps."""
        update_ema(self.ema_model, self.model, length, self.step)

    def record(self, epoch: EpochRecord) -> None:
        """Add an epoch, and keep its weights if no earlier one was better on the validation images."""
        self.history.append(epoch)
        if self.best_epoch is None or epoch.val_metric >= self.history[self.best_epoch].val_metric:
            self.best_epoch = len(self.history) - 1
            self.best = {name: tensor.detach().clone() for name, tensor in self.ema_model.state_dict().items()}

    def numbers(self) -> dict[str, Any]:
        """Return everything but the tensors, as JSON types."""
        numbers = {name: getattr(self, name) for name in NUMBERS}
        return numbers | {"history": [e.to_dict() for e in self.history], "spike_detector": asdict(self.spike_detector)}

    def weights(self) -> dict[str, Tensor]:
        """Return the weights of the model, of their average, and of the best average so far, by name."""
        groups = {"model": self.model.state_dict(), "ema_model": self.ema_model.state_dict(), "best": self.best}
        return {f"{group}.{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return all the tensors, by name."""
        tensors = self.weights()
        for number, optimizer in enumerate(self.optimizers):
            for i, slots in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{i}.{slot}": tensor for slot, tensor in slots.items()}
        return tensors

    def restore(self, numbers: StateNumbers, tensors: dict[str, Tensor]) -> None:
        """Take the numbers and tensors of a checkpoint into a fresh state of the same model and recipe.

        Raises:
            BundleError: where the tensors are not of this model, or not of these numbers.
        """
        best = _group(tensors, "best")
        if best and shapes(best) != shapes(self.ema_model.state_dict()):
            raise BundleError("the best weights are not of this model")
        if bool(best) != (numbers.best_epoch is not None):
            raise BundleError(f"best_epoch is {numbers.best_epoch}, and the best weights are {len(best)} tensors")
        slots = [self._slots(number, _group(tensors, f"optimizer.{number}")) for number in range(len(self.optimizers))]
        self.take_numbers(numbers)
        self.model.load_state_dict(_group(tensors, "model"))
        self.ema_model.load_state_dict(_group(tensors, "ema_model"))
        self.best = {name: tensor.to(self.device) for name, tensor in best.items()}
        for optimizer, own in zip(self.optimizers, slots, strict=True):
            optimizer.load_state_dict(optimizer.state_dict() | {"state": own})

    def _slots(self, number: int, tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        """Return what an optimizer keeps of each of its parameters, by the parameter's number."""
        parameters = [p for group in self.optimizers[number].param_groups for p in group["params"]]
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            index, _, slot = name.partition(".")
            if int(index) not in range(len(parameters)):
                raise BundleError(f"optimizer.{number}.{name} is of none of its {len(parameters)} parameters")
            if tensor.shape not in (parameters[int(index)].shape, torch.Size()):
                raise BundleError(f"optimizer.{number}.{name} has not the shape of its parameter")
            slots.setdefault(int(index), {})[slot] = tensor
        return slots

    def take_numbers(self, numbers: StateNumbers) -> None:
        """Take over what `numbers` returned."""
        for number in fields(numbers):
            setattr(self, number.name, getattr(numbers, number.name))


NUMBERS = tuple(f.name for f in fields(StateNumbers) if f.name not in ("history", "spike_detector"))


def shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _group(tensors: dict[str, Tensor], group: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{group}."): t for name, t in tensors.items() if name.startswith(f"{group}.")}
