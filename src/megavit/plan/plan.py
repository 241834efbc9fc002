"""Which layouts of a model on a cluster fit, the fastest first, and why the others do not."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from megavit.config.checks import check_integer
from megavit.config.vit import ViTConfig
from megavit.errors import ConfigError
from megavit.model.statistics import parameter_count, training_flops
from megavit.plan.communication import Exchange, exchanges
from megavit.plan.hardware import GIB, Gpu
from megavit.plan.memory import Memory, fullest
from megavit.plan.parallel_layout import Layout, Training, layouts, meshes
from megavit.plan.parameters import padded_parameters
from megavit.plan.step_time import Duration, duration

SECONDS_A_DAY = 86_400
# Where nothing fits, so many times the GPUs are tried.
GROWTH = (2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Candidate:
    """One layout, and what it takes.

    Attributes:
        moment: of the step at which a GPU holds most.
        memory: that it then holds.
    """

    layout: Layout
    moment: str
    memory: Memory
    duration: Duration

    def to_dict(self) -> dict[str, Any]:
        return {
            "mesh": self.layout.mesh,
            **asdict(self.layout),
            "memory": {"moment": self.moment, "total": self.memory.total, **self.memory.parts()},
            "seconds": {"step": self.duration.step, **{k: v for k, v in asdict(self.duration).items() if k != "mfu"}},
            "mfu": self.duration.mfu,
        }


@dataclass(frozen=True)
class Plan:
    """What training a model on a cluster comes to.

    Attributes:
        fitting: the fastest layout of each grid that fits, the fastest first.
        too_large: of each grid of which none fits, the layout that needs least, the nearest first.
        uneven: grids (replicate, shard, tensor) whose data ranks do not divide the batch.
    """

    config: ViTConfig
    training: Training
    gpu: Gpu
    gpus: int
    fitting: tuple[Candidate, ...]
    too_large: tuple[Candidate, ...]
    uneven: tuple[tuple[int, int, int], ...]

    @property
    def parameters(self) -> int:
        return parameter_count(self.config)

    @property
    def flops(self) -> int:
        """Of a step, as the model defines them; nothing that is computed twice counts."""
        return training_flops(self.config) * self.training.batch

    def days(self, candidate: Candidate, images: int) -> float:
        return images / self.training.batch * candidate.duration.step / SECONDS_A_DAY

    def exchanges(self, candidate: Candidate) -> list[Exchange]:
        return exchanges(self.config, self.training, candidate.layout)

    def padded(self, candidate: Candidate) -> dict[str, float]:
        """Parameters that this layout fills up by more than a tenth, and to how many times their size."""
        return padded_parameters(self.config, candidate.layout.shard, candidate.layout.tensor)


def make_plan(config: ViTConfig, training: Training, gpu: Gpu, gpus: int) -> Plan:
    """Every layout of `training` on so many GPUs, those that fit and those that do not.

    Raises:
        ConfigError: where no grid of the GPUs divides the batch, and for parts of a model that are not foreseen.
    """
    check_integer("gpus", gpus, minimum=1)
    check_foreseen(config)
    best: dict[tuple[int, int, int], Candidate] = {}
    least: dict[tuple[int, int, int], Candidate] = {}
    for layout in layouts(config, training, gpus, gpu.node):
        grid = (layout.replicate, layout.shard, layout.tensor)
        moment, memory = fullest(config, training, layout)
        found = Candidate(layout, moment, memory, duration(config, training, layout, gpu))
        if memory.total <= gpu.usable:
            if grid not in best or _order(found) < _order(best[grid]):
                best[grid] = found
        elif grid not in least or memory.total < least[grid].memory.total:
            least[grid] = found
    grids = set(meshes(config, gpus, gpu.node))
    if not best and not least:
        raise ConfigError(
            f"a batch of {training.batch:,} images does not divide over {gpus:,} GPUs: the images of a step are shared "
            f"among replicate × shard = GPUs / tensor of them; the nearest batch that does is "
            f"{max(1, round(training.batch / gpus)) * gpus:,}"
        )
    return Plan(
        config,
        training,
        gpu,
        gpus,
        fitting=tuple(sorted(best.values(), key=_order)),
        too_large=tuple(sorted((one for grid, one in least.items() if grid not in best), key=lambda c: c.memory.total)),
        uneven=tuple(sorted(grids - set(best) - set(least))),
    )


def check_foreseen(config: ViTConfig) -> None:
    """Raise a ConfigError for parts whose memory the formulas do not know."""
    design = config.design
    unknown = {
        "block zeta": design.block == "zeta",
        "dropout": config.dropout > 0 or config.emb_dropout > 0,
        "drop_path": design.drop_path > 0,
        "attention_out_norm": design.attention_out_norm,
        "mlp_out_norm": design.mlp_out_norm,
        "rms norms": design.norm == "rms",
        "rotary positions": design.rotary,
    }
    for name, there in unknown.items():
        if there:
            raise ConfigError(f"megavit plan knows no formula for {name}: leave it out of the model, or measure a step")


def remedy(plan: Plan) -> str | None:
    """What would make a plan without any fitting layout fit, tried in turn: other numbers, then more GPUs."""
    training = plan.training
    tries: list[tuple[str, Training]] = []
    if training.precision == "float32":
        tries.append(("--precision bfloat16", replace(training, precision="bfloat16")))
    if training.optimizer == "muon":
        tries.append(("--optimizer adamw", replace(training, optimizer="adamw")))
    for flags, changed in tries:
        if make_plan(plan.config, changed, plan.gpu, plan.gpus).fitting:
            return f"{flags} fits"
    for factor in GROWTH:
        wanted = plan.gpus * factor
        batch = max(training.batch, wanted)
        if batch % wanted == 0 and make_plan(plan.config, replace(training, batch=batch), plan.gpu, wanted).fitting:
            return f"{wanted:,} such GPUs fit" + (f" with --batch-size {batch}" if batch != training.batch else "")
    return None


def why_not(plan: Plan) -> str:
    """Of a plan without any fitting layout: the nearest, what it lacks, and what would make it fit."""
    nearest = plan.too_large[0]
    parts = sorted(nearest.memory.parts().items(), key=lambda item: -item[1])[:3]
    most = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts)
    helps = remedy(plan)
    return (
        f"no layout fits into {plan.gpu.usable / GIB:.1f} GiB a GPU; the nearest, {nearest.layout.mesh} with "
        f"{nearest.layout.micro_batch} image(s) at once, needs {nearest.memory.total / GIB:.1f} GiB ({most}); "
        + (helps or "a smaller --image-size, a larger --patch-size or a smaller model takes less")
    )


def _order(candidate: Candidate) -> tuple[float, int]:
    return candidate.duration.step, candidate.memory.total
