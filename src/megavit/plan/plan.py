"""Plan a training on a cluster: the layouts that fit, fastest first, and why the others do not fit."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from megavit.config.checks import check_integer
from megavit.config.vit import ViTConfig
from megavit.errors import ConfigError
from megavit.model.statistics import parameter_count, training_flops
from megavit.plan.communication import Communication, compute_communication
from megavit.plan.hardware import GIB, Gpu
from megavit.plan.memory import MemoryUse, compute_peak_memory
from megavit.plan.parallel_layout import ParallelLayout, Training, list_layouts, list_meshes
from megavit.plan.parameters import find_padded_parameters
from megavit.plan.step_time import StepTime, estimate_step_time

SECONDS_PER_DAY = 86_400
# Multiples of the GPUs to try if no layout fits.
GROWTH = (2, 4, 8, 16, 32)


@dataclass(frozen=True)
class LayoutEstimate:
    """The estimated step time of one layout, and its peak memory with the phase of the step that has it."""

    layout: ParallelLayout
    phase: str
    memory: MemoryUse
    step_time: StepTime

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.layout.name,
            **asdict(self.layout),
            "memory": {"phase": self.phase, "total": self.memory.total, **self.memory.to_dict()},
            "seconds": {"step": self.step_time.step, **{k: v for k, v in asdict(self.step_time).items() if k != "mfu"}},
            "mfu": self.step_time.mfu,
        }


@dataclass(frozen=True)
class Plan:
    """The layouts of a training on a cluster.

    Attributes:
        fitting: fastest fitting layout of each mesh, fastest first.
        too_large: smallest layout of each mesh where none fits, smallest first.
        indivisible: meshes (replicate, shard, tensor) whose data-parallel ranks do not divide the batch.
    """

    config: ViTConfig
    training: Training
    gpu: Gpu
    gpus: int
    fitting: tuple[LayoutEstimate, ...]
    too_large: tuple[LayoutEstimate, ...]
    indivisible: tuple[tuple[int, int, int], ...]

    @property
    def parameters(self) -> int:
        return parameter_count(self.config)

    @property
    def flops(self) -> int:
        """Floating-point operations of a step, without recomputation."""
        return training_flops(self.config) * self.training.batch

    def estimate_days(self, estimate: LayoutEstimate, images: int) -> float:
        return images / self.training.batch * estimate.step_time.step / SECONDS_PER_DAY

    def compute_communication(self, estimate: LayoutEstimate) -> list[Communication]:
        return compute_communication(self.config, self.training, estimate.layout)

    def find_padded_parameters(self, estimate: LayoutEstimate) -> dict[str, float]:
        """Return the padding factors above `MAX_PADDING` of this layout's parameters by name."""
        return find_padded_parameters(self.config, estimate.layout.shard, estimate.layout.tensor)


def make_plan(config: ViTConfig, training: Training, gpu: Gpu, gpus: int) -> Plan:
    """Return the estimates of every layout of `training` on `gpus` GPUs.

    Raises:
        ConfigError: if no mesh of the GPUs divides the batch, or the formulas do not cover the model.
    """
    check_integer("gpus", gpus, minimum=1)
    check_supported(config)
    best: dict[tuple[int, int, int], LayoutEstimate] = {}
    smallest: dict[tuple[int, int, int], LayoutEstimate] = {}
    for layout in list_layouts(config, training, gpus, gpu.gpus_per_node):
        mesh = (layout.replicate, layout.shard, layout.tensor)
        phase, memory = compute_peak_memory(config, training, layout)
        estimate = LayoutEstimate(layout, phase, memory, estimate_step_time(config, training, layout, gpu))
        if memory.total <= gpu.usable:
            if mesh not in best or _order(estimate) < _order(best[mesh]):
                best[mesh] = estimate
        elif mesh not in smallest or memory.total < smallest[mesh].memory.total:
            smallest[mesh] = estimate
    meshes = set(list_meshes(config, gpus, gpu.gpus_per_node))
    if not best and not smallest:
        raise ConfigError(
            f"a batch of {training.batch:,} images cannot be divided over {gpus:,} GPUs: it must be a multiple of "
            f"replicate × shard = GPUs / tensor; the nearest batch size that is divisible is "
            f"{max(1, round(training.batch / gpus)) * gpus:,}"
        )
    return Plan(
        config,
        training,
        gpu,
        gpus,
        fitting=tuple(sorted(best.values(), key=_order)),
        too_large=tuple(sorted((e for mesh, e in smallest.items() if mesh not in best), key=lambda c: c.memory.total)),
        indivisible=tuple(sorted(meshes - set(best) - set(smallest))),
    )


def check_supported(config: ViTConfig) -> None:
    """Raise ConfigError for models that the memory formulas do not cover."""
    design = config.design
    unsupported = {
        "block zeta": design.block == "zeta",
        "dropout": config.dropout > 0 or config.emb_dropout > 0,
        "drop_path": design.drop_path > 0,
        "attention_out_norm": design.attention_out_norm,
        "mlp_out_norm": design.mlp_out_norm,
        "rms norms": design.norm == "rms",
        "batch norms": design.norm == "batch",
        "rotary positions": design.rotary,
    }
    for name, is_used in unsupported.items():
        if is_used:
            raise ConfigError(f"megavit plan does not support {name}: remove it from the model, or measure a step")


def suggest_remedy(plan: Plan) -> str | None:
    """Return flags, or a number of GPUs, for which a layout fits, or None if none is found."""
    training = plan.training
    candidates: list[tuple[str, Training]] = []
    if training.precision == "float32":
        candidates.append(("--precision bfloat16", replace(training, precision="bfloat16")))
    if training.optimizer == "muon":
        candidates.append(("--optimizer adamw", replace(training, optimizer="adamw")))
    for flags, changed in candidates:
        if make_plan(plan.config, changed, plan.gpu, plan.gpus).fitting:
            return f"it fits with {flags}"
    for factor in GROWTH:
        gpus = plan.gpus * factor
        batch = max(training.batch, gpus)
        if batch % gpus == 0 and make_plan(plan.config, replace(training, batch=batch), plan.gpu, gpus).fitting:
            return f"it fits on {gpus:,} such GPUs" + (f" with --batch-size {batch}" if batch != training.batch else "")
    return None


def explain_misfit(plan: Plan) -> str:
    """Return a sentence on a plan without a fitting layout: the nearest layout, and a remedy."""
    nearest = plan.too_large[0]
    parts = sorted(nearest.memory.to_dict().items(), key=lambda item: -item[1])[:3]
    largest = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts)
    remedy = suggest_remedy(plan)
    return (
        f"no layout fits into {plan.gpu.usable / GIB:.1f} GiB per GPU; the closest, {nearest.layout.name} with "
        f"micro-batch size {nearest.layout.micro_batch_size}, needs {nearest.memory.total / GIB:.1f} GiB ({largest}); "
        + (remedy or "a smaller --image-size, a larger --patch-size or a smaller model needs less memory")
    )


def _order(estimate: LayoutEstimate) -> tuple[float, int]:
    return estimate.step_time.step, estimate.memory.total
