"""The state of a run between two steps: everything that must survive a restart."""

import copy
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from megavit.config.recipe import OptimizerRecipe
from megavit.distributed.context import ParallelContext
from megavit.distributed.dtensor_utils import to_local
from megavit.errors import BundleError
from megavit.model.vit import MegaVit
from megavit.train.checkpoint.manifest import StateNumbers
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
            to_local(averaged).copy_(to_local(current))

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
        """All but the tensors, as JSON types."""
        numbers = {name: getattr(self, name) for name in NUMBERS} | {"tp_size": self.parallel.tp_size}
        return numbers | {"history": [e.to_dict() for e in self.history], "spike_detector": asdict(self.spike_detector)}

    def weights(self) -> dict[str, Tensor]:
        """Return the weights of the model, of their average, and of the best average so far, by name."""
        groups = {"model": self.model.state_dict(), "ema_model": self.ema_model.state_dict(), "best": self.best}
        return {f"{group}.{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return all the tensors by name, those of the optimizers by the names of their parameters."""
        tensors = self.weights()
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.model.named_parameters()}
        for optimizer in self.optimizers:
            for parameter, slots in optimizer.state.items():
                tensors |= {f"optimizer.{names[parameter]}.{slot}": tensor for slot, tensor in slots.items()}
        return tensors

    def make_tensors(self, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
        """Make the best weights and the optimizers' slots that `shapes` names, and return all tensors, to be filled.

        Raises:
            BundleError: where the names and shapes are not those of this state's tensors.
        """
        has_best = any(name.startswith("best.") for name in shapes)
        self.best = {k: torch.zeros_like(v) for k, v in self.ema_model.state_dict().items()} if has_best else {}
        parameters = dict(self.model.named_parameters())
        owners = {p: optimizer for optimizer in self.optimizers for g in optimizer.param_groups for p in g["params"]}
        for optimizer in self.optimizers:
            optimizer.state.clear()
        for name, shape in shapes.items():
            kind, _, rest = name.partition(".")
            path, _, slot = rest.rpartition(".")
            parameter = parameters.get(path)
            if kind == "optimizer" and parameter in owners:
                is_count = shape == torch.Size()  # of steps
                empty = to_local(parameter).new_zeros(()) if is_count else torch.zeros_like(parameter)
                owners[parameter].state[parameter][slot] = empty.detach()
        tensors = self.tensors()
        faults = sorted(
            name for name in tensors.keys() | shapes if name not in tensors or shapes.get(name) != tensors[name].shape
        )
        if faults:
            raise BundleError(
                f"the checkpoint is not of this model: {', '.join(faults[:3])} differ, {len(faults)} tensors in all"
            )
        return tensors

    def take_numbers(self, numbers: StateNumbers) -> None:
        """The reverse of `numbers`."""
        for name in (*NUMBERS, "history", "spike_detector"):
            setattr(self, name, getattr(numbers, name))


NUMBERS = tuple(e.name for e in fields(StateNumbers) if e.name not in ("history", "spike_detector", "tp_size"))
