"""The formulas beside a traced run."""

from dataclasses import dataclass, replace
from typing import Any

from megavit.config.vit import ViTConfig
from megavit.plan.communication import exchanges, passes
from megavit.plan.memory import moments, optimizer_state
from megavit.plan.parallel_layout import Layout, Training
from megavit.plan.parameters import weights_of
from megavit.plan.trace.trace import trace

MEMORY_WITHIN, TRAFFIC_WITHIN = 0.05, 0.02
SLACK_BYTES = 2**20
"""Which no GPU notices: of a model of a few MB, what one more buffer of a layer makes is more than a share of it."""


@dataclass(frozen=True)
class Checked:
    """Bytes of one GPU, (by formula, traced).

    Attributes:
        memory: at the fullest moment of forward and backward passes, the optimizer's state and the averages included.
        traffic: by collective, of the same passes.
    """

    memory: tuple[int, int]
    traffic: dict[str, tuple[int, int]]

    @property
    def agrees(self) -> bool:
        return _near(self.memory, MEMORY_WITHIN) and all(_near(both, TRAFFIC_WITHIN) for both in self.traffic.values())

    def to_dict(self) -> dict[str, Any]:
        def both(pair: tuple[int, int]) -> dict[str, int]:
            return {"formula": pair[0], "traced": pair[1]}

        return {
            "agrees": self.agrees,
            "memory": both(self.memory),
            "traffic": {name: both(pair) for name, pair in self.traffic.items()},
        }


def checked(config: ViTConfig, training: Training, layout: Layout) -> Checked:
    """Both; the state of the optimizer is by arithmetic in both, from the sizes of the traced parts.

    Under autocast both are of processors, whatever the plan is for: the trace runs on one, and a GPU's autocast casts
    norms too.
    """
    if layout.numerics(training).autocast:
        training = replace(training, processor=True)
    traced = trace(config, training, layout)
    weights = weights_of(config, layout.shard, layout.tensor)
    beside = optimizer_state(weights, training) + training.averages * 4 * traced.held
    formula = max(one.total for moment, one in moments(config, training, layout).items() if moment != "optimizer")
    sent = passes(exchanges(config, training, layout))
    names = sorted({*sent, *traced.traffic})
    return Checked(
        memory=(formula, traced.memory + beside),
        traffic={name: (sent.get(name, 0), traced.traffic[name]) for name in names},  # pyrefly: ignore
    )


def _near(both: tuple[int, int], share: float) -> bool:
    formula, traced = both
    return abs(formula - traced) <= max(share * traced, SLACK_BYTES)
