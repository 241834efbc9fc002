"""Compare the estimates of memory and communication with a traced step."""

from dataclasses import dataclass, replace
from typing import Any

from megavit.config.vit import ViTConfig
from megavit.plan.communication import compute_communication, sum_passes
from megavit.plan.memory import compute_memory_by_phase, compute_optimizer_state
from megavit.plan.parallel_layout import ParallelLayout, Training
from megavit.plan.parameters import shard_parameters
from megavit.plan.trace.trace import trace

MEMORY_TOLERANCE, COMMUNICATION_TOLERANCE = 0.05, 0.02
# Absolute tolerance, because one buffer of a small model may exceed the relative tolerances.
SLACK_BYTES = 2**20


@dataclass(frozen=True)
class TraceComparison:
    """The memory, with optimizer and averages, and communication of the passes in bytes: (by formula, traced)."""

    memory: tuple[int, int]
    communication: dict[str, tuple[int, int]]

    @property
    def agrees(self) -> bool:
        return _near(self.memory, MEMORY_TOLERANCE) and all(
            _near(both, COMMUNICATION_TOLERANCE) for both in self.communication.values()
        )

    def to_dict(self) -> dict[str, Any]:
        def both(pair: tuple[int, int]) -> dict[str, int]:
            return {"formula": pair[0], "traced": pair[1]}

        return {
            "agrees": self.agrees,
            "memory": both(self.memory),
            "communication": {name: both(pair) for name, pair in self.communication.items()},
        }


def compare_with_trace(config: ViTConfig, training: Training, layout: ParallelLayout) -> TraceComparison:
    """Return estimates and traced values of a step; traced memory includes optimizer state and averages by formula.

    With autocast both are for a CPU, because the trace runs on one and autocast on a GPU also casts norms.
    """
    if layout.numerics(training).autocast:
        training = replace(training, processor=True)
    traced = trace(config, training, layout)
    weights = shard_parameters(config, layout.shard, layout.tensor)
    untraced = compute_optimizer_state(weights, training) + training.averages * 4 * traced.stored
    formula = max(
        memory.total
        for phase, memory in compute_memory_by_phase(config, training, layout).items()
        if phase != "optimizer"
    )
    sent = sum_passes(compute_communication(config, training, layout))
    names = sorted({*sent, *traced.communication})
    return TraceComparison(
        memory=(formula, traced.memory + untraced),
        communication={name: (sent.get(name, 0), traced.communication[name]) for name in names},  # pyrefly: ignore
    )


def _near(both: tuple[int, int], share: float) -> bool:
    formula, traced = both
    return abs(formula - traced) <= max(share * traced, SLACK_BYTES)
