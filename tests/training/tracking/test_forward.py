import json
import threading
from importlib import import_module
from pathlib import Path

import pytest

from megavit.training.tracking.forward import LogReader, forward, to_values
from megavit.training.tracking.log import append_line
from tests.helpers.stub_trackers import MLFLOW, RUN, install_stubs

VALIDATION = {"step": 4, "epoch": 1, "val_loss": 0.5, "val_metric": 0.75, "metric": "balanced accuracy", "loss": None}


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with two lines in its log."""
    run = tmp_path / "flowers"
    run.mkdir()
    (run / "recipe.toml").write_text("[run]\nepochs = 3\n")
    append_line(run / "log.jsonl", "step", {"step": 2, "loss": 1.5, "mfu": None})
    append_line(run / "log.jsonl", "validation", VALIDATION)
    monkeypatch.chdir(tmp_path)
    return run


def ended() -> threading.Event:
    done = threading.Event()
    done.set()
    return done


def recorded() -> list[list[object]]:
    return [json.loads(line) for line in Path("recorded.jsonl").read_text().splitlines()]


def test_the_reader_yields_each_whole_line_once_even_if_the_log_is_rewritten(run_dir):
    reader, log = LogReader(run_dir), run_dir / "log.jsonl"
    assert [line["step"] for _, line in reader.read()] == [2, 4]
    with log.open("a") as file:
        file.write('{"event": "step", "step": 6')
    assert list(reader.read()) == []
    with log.open("a") as file:
        file.write("}\n")
    assert [line["step"] for _, line in reader.read()] == [6]
    first = log.read_text().splitlines(keepends=True)[0]
    log.write_text(first + '{"event": "step", "step": 3}\n')  # rolled back
    assert [line["step"] for _, line in reader.read()] == [3]


def test_the_logs_of_stages_are_read_too_under_their_names(run_dir):
    (run_dir / "stages" / "lora").mkdir(parents=True)
    append_line(run_dir / "stages" / "lora" / "log.jsonl", "step", {"step": 1, "loss": 2.0})
    values = [to_values(stage, line) for stage, line in LogReader(run_dir).read()]
    assert values[-1] == {"lora/train/loss": 2.0}
    assert values[1] == {
        "validation/epoch": 1,
        "validation/loss": 0.5,
        "validation/balanced_accuracy": 0.75,
    }


def test_a_metric_with_an_interval_is_shown_by_its_value():
    line = {"event": "test", "step": 9, "metrics": {"accuracy": {"value": 0.9, "low": 0.8, "high": 1.0}, "images": 7}}
    assert to_values("", line) == {"test/accuracy": 0.9}


@pytest.mark.parametrize("name", ["mlflow", "trackio", "wandb"])
def test_a_tracker_gets_settings_and_every_line_and_goes_on_after_a_stop(run_dir, tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(install_stubs(tmp_path / name, **{name: MLFLOW if name == "mlflow" else RUN}))
    forward(run_dir, name, ended())
    assert [entry[1:] for entry in recorded() if entry[0] == "log"] == [
        [{"train/loss": 1.5}, 2],
        [{"validation/epoch": 1, "validation/loss": 0.5, "validation/balanced_accuracy": 0.75}, 4],
    ]
    assert "epochs" in str(recorded()) and recorded()[-1] == ["end"]
    append_line(run_dir / "log.jsonl", "step", {"step": 6, "loss": 1.0})
    forward(run_dir, name, ended())
    assert [entry[2] for entry in recorded() if entry[0] == "log"] == [2, 4, 6]
    last = [entry for entry in recorded() if entry[0] == "start"][-1]
    assert {"mlflow": "id-of-mlflow", "trackio": "flowers", "wandb": "id-of-run"}[name] in str(last)


def test_tensorboard_shows_every_line(run_dir):
    events = import_module("tensorboard.backend.event_processing.event_accumulator")
    forward(run_dir, "tensorboard", ended())
    append_line(run_dir / "log.jsonl", "step", {"step": 6, "loss": 1.0})
    forward(run_dir, "tensorboard", ended())
    shown = events.EventAccumulator(str(run_dir / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in shown.Scalars("train/loss")] == [(2, 1.5), (6, 1.0)]
    assert [event.value for event in shown.Scalars("validation/balanced_accuracy")] == [0.75]
