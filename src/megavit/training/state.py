"""The training state: everything that must survive a restart."""

import copy
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from megavit.config.checks import check_integer, check_range
from megavit.config.recipe import OptimizerRecipe, ScheduleRecipe
from megavit.distributed.context import ParallelContext
from megavit.distributed.dtensor_utils import to_local
from megavit.errors import BundleError, ConfigError
from megavit.model.vit import MegaVit
from megavit.training.history import EpochRecord
from megavit.training.optim.optimizer import make_optimizers, update_ema
from megavit.training.spike_detection import WINDOW, SpikeDetector


@dataclass
class TrainState:
    """The state of a run between two steps; random numbers are derived from the seed and `step`.

    Attributes:
        ema_model: model with the exponential moving average of the weights, used for validation and the bundle.
        optimizers: optimizers of disjoint parameters of `model`.
        step: number of optimizer steps done, including skipped ones.
        progress: progress of the run, or of its last extension, in [0, 1].
        validated: progress at the last validation.
        skipped: number of steps skipped because of a nonfinite or outlier gradient.
        skipped_in_a_row: number of consecutive steps, up to the last, with a nonfinite gradient.
        loss_sum, loss_steps: sum and number of losses since the last validation.
        seconds: time since the command began, excluding pauses.
        history: one record per validation.
        best: weights of `ema_model` at the best validation so far.
        best_epoch: index of the best validation in `history`; None before the first.
        parallel: context of the processes that train; it determines how models, optimizers and `best` are sharded.
        wrapped: module to call in a training step; None for `model` itself.
        rollbacks: number of rollbacks to an earlier checkpoint after divergence.
        rollback_step: step of the last rollback; 0 for none.
        dropped_batches: number of batches skipped by rollbacks; the data order is ahead of `step` by as many.
        extended_at: steps at which the finished run was extended, ascending.
        stopped_early: whether the run, or its last extension, ended because validation no longer became better.
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
    extended_at: list[int] = field(default_factory=list)
    stopped_early: bool = False

    @classmethod
    def create(cls, model: MegaVit, recipe: OptimizerRecipe, parallel: ParallelContext | None = None) -> "TrainState":
        """Return the initial state of an unsharded `model`, which is the same in every process.

        If sharded, `model` may be on the meta device: its values are set afterwards, and then `init_ema` is called.
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
        """Copy the model's weights to the moving average."""
        for averaged, current in zip(self.ema_model.parameters(), self.model.parameters(), strict=True):
            to_local(averaged).copy_(to_local(current))

    def update_ema(self, length: float) -> None:
        """Update the moving average of about `length` steps."""
        update_ema(self.ema_model, self.model, length, self.step)

    def record(self, epoch: EpochRecord) -> None:
        """Add a record, and copy the averaged weights to `best` unless an earlier validation was better."""
        self.history.append(epoch)
        if self.best_epoch is None or epoch.val_metric >= self.history[self.best_epoch].val_metric:
            self.best_epoch = len(self.history) - 1
            self.best = {name: tensor.detach().clone() for name, tensor in self.ema_model.state_dict().items()}

    def extend(self) -> None:
        """Begin an extension of the finished run: weights, optimizers, their average and the best so far are kept."""
        self.extended_at = [*self.extended_at, self.step]
        self.progress, self.validated, self.stopped_early = 0.0, 0.0, False

    def is_early(self, schedule: ScheduleRecipe) -> bool:
        """Return whether the next step is one of the cheaper ones early in a run, of which an extension has none."""
        return not self.extended_at and self.progress < schedule.early

    def epochs_since_best(self) -> float:
        """Return the epochs since the best validation of the run, or of its last extension; 0 before the first."""
        after = self.extended_at[-1] if self.extended_at else 0
        records = [record for record in self.history if record.step > after]
        if not records:
            return 0.0
        best = max(records, key=lambda record: record.val_metric)  # the first of equal ones
        return records[-1].epoch - best.epoch

    def numbers(self) -> dict[str, Any]:
        """Return all fields that are not tensors as JSON types, and `tp_size`."""
        numbers = {name: getattr(self, name) for name in NUMBERS} | {"tp_size": self.parallel.tp_size}
        return numbers | {"history": [e.to_dict() for e in self.history], "spike_detector": asdict(self.spike_detector)}

    def weights(self) -> dict[str, Tensor]:
        """Return the weights of the model, of its moving average, and of the best average so far, by name."""
        groups = {"model": self.model.state_dict(), "ema_model": self.ema_model.state_dict(), "best": self.best}
        return {f"{group}.{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name; optimizer tensors are named after their parameters."""
        tensors = self.weights()
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.model.named_parameters()}
        for optimizer in self.optimizers:
            for parameter, slots in optimizer.state.items():
                tensors |= {f"optimizer.{names[parameter]}.{slot}": tensor for slot, tensor in slots.items()}
        return tensors

    def make_tensors(self, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
        """Return all tensors, to be filled, or raise BundleError if their names or shapes differ from `shapes`."""
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
                f"the checkpoint does not fit this model: names or shapes differ, such as {', '.join(faults[:3])} "
                f"({len(faults)} in all)"
            )
        return tensors

    def load_numbers(self, numbers: "StateNumbers") -> None:
        """Set all fields that are not tensors from a checkpoint's numbers."""
        for name in (*NUMBERS, "history", "spike_detector"):
            setattr(self, name, getattr(numbers, name))


MAX_STEPS = 10**12
_COUNTS = ("step", "skipped", "skipped_in_a_row", "loss_steps", "rollbacks", "rollback_step", "dropped_batches")


@dataclass(frozen=True, kw_only=True)
class StateNumbers:
    """The fields of a `megavit.training.state.TrainState` that are not tensors, and its `tp_size`."""

    step: int
    progress: float
    validated: float
    skipped: int
    skipped_in_a_row: int
    loss_sum: float
    loss_steps: int
    seconds: float
    best_epoch: int | None
    history: list[EpochRecord]
    rollbacks: int
    rollback_step: int
    dropped_batches: int
    spike_detector: SpikeDetector
    tp_size: int
    extended_at: list[int] = field(default_factory=list)
    stopped_early: bool = False

    def __post_init__(self) -> None:
        for name in _COUNTS:
            check_integer(name, getattr(self, name), minimum=0)
        check_integer("tp_size", self.tp_size, minimum=1)
        check_range("step", self.step, 0, MAX_STEPS)
        check_range("dropped_batches", self.dropped_batches, 0, MAX_STEPS)
        check_range("progress", self.progress, 0, 1)
        check_range("validated", self.validated, 0, self.progress)
        check_range("seconds", self.seconds, 0, float("inf"))
        check_range("rollback_step", self.rollback_step, 0, self.step)
        check_range("skipped", self.skipped, 0, self.step)
        check_range("skipped_in_a_row", self.skipped_in_a_row, 0, self.skipped)
        check_range("loss_steps", self.loss_steps, 0, self.step)
        steps = [epoch.step for epoch in self.history]
        if steps != sorted(steps) or not all(0 < step <= self.step for step in steps):
            raise ConfigError(f"history must have ascending steps from 1 to {self.step}, got {steps[:5]}")
        if self.extended_at != sorted(set(self.extended_at)) or not all(0 < at <= self.step for at in self.extended_at):
            raise ConfigError(
                f"extended_at must have ascending steps from 1 to {self.step}, got {self.extended_at[:5]}"
            )
        if any(epoch.val_metric > 1 for epoch in self.history):
            raise ConfigError("history must have metrics of at most 1")
        if self.history:
            check_integer("best_epoch", self.best_epoch, minimum=0)
            check_range("best_epoch", self.best_epoch, 0, len(self.history) - 1)
        elif self.best_epoch is not None:
            raise ConfigError(f"best_epoch must be null if there is no history, got {self.best_epoch}")
        if max(len(self.spike_detector.losses), len(self.spike_detector.norms)) > WINDOW:
            raise ConfigError(f"spike_detector must have at most {WINDOW} steps")
        for name in ("outliers", "high_losses"):
            check_integer(f"spike_detector.{name}", getattr(self.spike_detector, name), minimum=0)


NUMBERS = tuple(e.name for e in fields(StateNumbers) if e.name not in ("history", "spike_detector", "tp_size"))
