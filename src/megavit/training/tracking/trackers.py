"""Open an experiment tracker, each by its own library, which is imported only then."""

import os
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from megavit.errors import ConfigError

PROJECT = "megavit"


class Tracker(Protocol):
    """A tracker of one run; `run_id` continues it after a stop."""

    run_id: str

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record values of a step."""
        ...

    def close(self) -> None:
        """Send what has not been sent yet."""
        ...


def check_tracker(name: str | None) -> None:
    """Raise ConfigError, which says what to install, if the library of a tracker is not there."""
    if name is not None and find_spec(name) is None:
        raise ConfigError(f"--track {name} needs the package {name}: pip install 'megavit[{name}]'")


def open_tracker(name: str, run_dir: Path, run_id: str | None, settings: Mapping[str, Any]) -> Tracker:
    """Open a tracker for a run, or for the rest of the run `run_id`.

    Args:
        settings: settings of the run, nested by table.
    """
    opened: dict[str, Callable[[], Tracker]] = {
        "tensorboard": lambda: TensorBoard(run_dir),
        "mlflow": lambda: MLflow(run_dir, run_id, settings),
        "trackio": lambda: Trackio(run_dir, settings),
        "wandb": lambda: WeightsAndBiases(run_dir, run_id, settings),
    }
    return opened[name]()


class TensorBoard:
    """A tracker that writes event files to RUN/tensorboard, for `tensorboard --logdir`."""

    run_id = ""

    def __init__(self, run_dir: Path) -> None:
        self._writer = import_module("tensorboard.summary.writer.event_file_writer").EventFileWriter(
            str(run_dir / "tensorboard")
        )
        self._event = import_module("tensorboard.compat.proto.event_pb2").Event
        self._summary = import_module("tensorboard.compat.proto.summary_pb2").Summary

    def log(self, values: Mapping[str, float], step: int) -> None:
        entries = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=entries)))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """A tracker of MLflow; its server and experiment are those of MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME."""

    def __init__(self, run_dir: Path, run_id: str | None, settings: Mapping[str, Any]) -> None:
        self._mlflow = mlflow = import_module("mlflow")
        if "MLFLOW_EXPERIMENT_NAME" not in os.environ and "MLFLOW_EXPERIMENT_ID" not in os.environ:
            mlflow.set_experiment(PROJECT)
        run = mlflow.start_run(run_id=run_id or None, run_name=None if run_id else run_dir.name)
        self.run_id = run.info.run_id
        if not run_id:
            mlflow.log_params(flatten(settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


class Trackio:
    """A tracker of trackio, in its local database or the space of TRACKIO_SPACE_ID."""

    def __init__(self, run_dir: Path, settings: Mapping[str, Any]) -> None:
        self.run_id = run_dir.name
        self._run = import_module("trackio").init(
            project=PROJECT, name=run_dir.name, config=flatten(settings), resume="allow"
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class WeightsAndBiases:
    """A tracker of Weights & Biases; WANDB_PROJECT and WANDB_MODE apply."""

    def __init__(self, run_dir: Path, run_id: str | None, settings: Mapping[str, Any]) -> None:
        self._run = import_module("wandb").init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run_dir.name,
            id=run_id or None,
            resume="allow",
            config=dict(settings),
            dir=str(run_dir),
        )
        self.run_id = self._run.id

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings by names such as run.epochs."""
    return {f"{table}.{key}": value for table, keys in settings.items() for key, value in keys.items()}
