"""Write the log of a run: one JSON object a line, whose `event` says what it is.

step         every few seconds: mean loss, learning rate, speed and utilization since the line before
validation   the metrics of a validation
extension    the finished run is extended
test         the metrics of the finished model on the test images
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from megavit.model.statistics import training_flops
from megavit.runtime.device import peak_flops
from megavit.runtime.storage import write_file, writing
from megavit.training.context import RunContext, TrainSetup
from megavit.training.state import TrainState

LOG = "log.jsonl"
# Events of one step stand in this order.
_EVENTS = ("step", "validation", "extension")


class RunLog:
    """The log of a run, which only the main process writes.

    It begins as it was at the step of the state: a run that was resumed or rolled back has no line twice.
    """

    def __init__(self, ctx: RunContext, setup: TrainSetup) -> None:
        self.ctx, self.task = ctx, setup.task
        self.path = ctx.run_dir / LOG
        self._written_at = ctx.clock.now()
        self._losses: list[float] = []
        self._steps, self._seconds = 0, 0.0
        self._flops = _flops_per_image(setup)
        if ctx.dist.is_main_process:
            _rewrite(self.path, setup.state)

    def write(self, event: str, values: Mapping[str, Any]) -> None:
        """Append a line, or raise OutputError."""
        if self.ctx.dist.is_main_process:
            append_line(self.path, event, values)

    def step(self, state: TrainState, loss: float, seconds: float, learning_rate: float) -> None:
        """Count a step of so many `seconds`, and append a line if the last one is `log_seconds` ago."""
        self._steps += 1
        self._seconds += seconds
        if math.isfinite(loss):
            self._losses.append(loss)
        now = self.ctx.clock.now()
        if now - self._written_at < self.task.recipe.run.log_seconds:
            return
        images_per_second = self._steps * self.task.batch_size / max(self._seconds, 1e-9)
        self.write(
            "step",
            {
                "step": state.step,
                "epoch": self.task.fractional_epoch_at(state.step),
                "seconds": self.ctx.clock.elapsed,
                "loss": sum(self._losses) / len(self._losses) if self._losses else None,
                "learning_rate": learning_rate,
                "images_per_second": images_per_second,
                "mfu": self._mfu(state, images_per_second),
            },
        )
        self._written_at, self._losses, self._steps, self._seconds = now, [], 0, 0.0

    def _mfu(self, state: TrainState, images_per_second: float) -> float | None:
        """Return the model FLOPs utilization; None where the peak is unknown or steps are cheaper than whole images."""
        recipe = self.task.recipe
        is_cheaper = state.model.patch_drop.rate > 0 or state.is_early(recipe.schedule)
        peak = peak_flops(self.ctx.device, recipe.run.precision)
        if peak is None or self._flops is None or is_cheaper:
            return None
        return images_per_second * self._flops / (peak * self.ctx.dist.world_size)


def append_line(path: Path, event: str, values: Mapping[str, Any]) -> None:
    """Append an event to the log at `path`, or raise OutputError."""
    with writing("the log", path.parent), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"event": event, **values}, ensure_ascii=False) + "\n")


def _flops_per_image(setup: TrainSetup) -> int | None:
    """Return the operations of a step on one image; None if images differ in size, or if not all weights train."""
    if setup.task.preprocessing.keep_aspect or not all(p.requires_grad for p in setup.state.model.parameters()):
        return None
    return training_flops(setup.state.model.config, all_tokens=False)


def _rewrite(path: Path, state: TrainState) -> None:
    """Write the log up to the step of `state`: its validations, and the lines between them that are already there."""
    lines = [line for line in read_log(path) if line["event"] == "step" and line["step"] <= state.step]
    lines += [{"event": "validation", **asdict(record)} for record in state.history]
    lines += [{"event": "extension", "step": step} for step in state.extended_at]
    lines.sort(key=lambda line: (line["step"], _EVENTS.index(line["event"])))
    if lines or path.exists():
        with writing("the log", path.parent):
            write_file(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of the log at `path`, without one that a kill cut short; none if there is no log."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("event"), str) and isinstance(value.get("step"), int):
            lines.append(value)
    return lines
