"""Forward the log of a run to a tracker, in a process of its own: forward RUN NAME.

The run writes its log and does nothing else for a tracker, so that one that is slow, broken or dead cannot hold it up.
The process ends when its standard input does, after forwarding the rest.
"""

import json
import math
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megavit.runtime.signals import ignore_stop_signals
from megavit.training.tracking.trackers import open_tracker

POLL_SECONDS = 1.0
# The run's id at each tracker and the last step sent to it, for a run that goes on after a stop.
TRACKED = "tracker.json"
_NOT_VALUES = ("event", "step", "metric", "val_metric", "val_loss")


class LogReader:
    """A reader of the lines that are new in the logs of a run, also after they were rewritten.

    Attributes:
        steps: by stage, the last step that was read; lines up to those of an earlier process are not read again.
    """

    def __init__(self, run_dir: Path, steps: dict[str, int] | None = None) -> None:
        self.run_dir = run_dir
        self.steps = dict(steps or {})
        self._known = dict(self.steps)
        self._seen: set[str] = set()

    def read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each new line with the name of its stage; "" outside of fine-tuning."""
        for path in (self.run_dir / "log.jsonl", *sorted(self.run_dir.glob("stages/*/log.jsonl"))):
            stage = "" if path.parent == self.run_dir else path.parent.name
            try:
                content = path.read_text(encoding="utf-8")
            except FileNotFoundError:
                continue
            for line in content.splitlines(keepends=True):
                key = f"{stage}\n{line}"
                if not line.endswith("\n") or key in self._seen:
                    continue
                self._seen.add(key)
                found = json.loads(line)
                if found["event"] == "test" or found["step"] > self._known.get(stage, -1):
                    self.steps[stage] = max(found["step"], self.steps.get(stage, -1))
                    yield stage, found


def to_values(stage: str, line: dict[str, Any]) -> dict[str, float]:
    """Return the finite numbers of a line by the names that a tracker shows, such as validation/loss."""
    event = line["event"]
    values = {name: value for name, value in line.items() if name not in _NOT_VALUES}
    if event == "test":
        metrics = line["metrics"]
        return {f"test/{name}": metric["value"] for name, metric in metrics.items() if is_interval(metric)}
    if event == "validation":
        values |= {"loss": line["val_loss"], line["metric"].replace(" ", "_").replace("²", "2"): line["val_metric"]}
    group = "/".join(filter(None, (stage, "train" if event == "step" else event)))
    return {
        f"{group}/{name}": float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def is_interval(metric: Any) -> bool:
    """Return whether a metric of the test images is a finite value with its interval."""
    return isinstance(metric, dict) and isinstance(metric.get("value"), int | float) and math.isfinite(metric["value"])


def forward(run_dir: Path, name: str, done: threading.Event) -> None:
    """Forward new lines to a tracker until `done` is set, and then the rest."""
    path = run_dir / TRACKED
    tracked = json.loads(path.read_text()) if path.exists() else {}
    earlier = tracked.get(name, {"run": None, "steps": {}})
    reader = LogReader(run_dir, earlier["steps"])
    settings = tomllib.loads((run_dir / "recipe.toml").read_text(encoding="utf-8"))
    tracker = open_tracker(name, run_dir, earlier["run"], settings)
    ended = False
    while not ended:
        ended = done.wait(POLL_SECONDS)
        for stage, line in reader.read():
            values = to_values(stage, line)
            if values:
                tracker.log(values, line["step"])
        path.write_text(json.dumps(tracked | {name: {"run": tracker.run_id, "steps": reader.steps}}))
    tracker.close()


def main() -> None:
    run_dir, name = sys.argv[1:]
    # A signal that asks the run to stop also reaches this process, which has to wait for the run's last lines.
    ignore_stop_signals()
    done = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        done.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    forward(Path(run_dir), name, done)


if __name__ == "__main__":
    main()
