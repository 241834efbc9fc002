"""Training from Python: the same as the command, with its result as an object."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.datasets import load_digits

import megavit
from megavit.errors import BundleError, ConfigError, Interrupted
from megavit.training.progress import NullReporter
from tests.api.conftest import TINY


def test_the_functions_keep_their_names_whatever_is_imported() -> None:
    script = (
        "import megavit, inspect\n"
        "import megavit.training.run, megavit.evaluation.evaluation, megavit.data_check.check\n"
        "import megavit.exporting.export, megavit.serving.server, megavit.api.train\n"
        "from megavit.__init__ import _HOME\n"
        "functions = [name for name, home in _HOME.items() if home.startswith('megavit.api.')]\n"
        "assert {'train', 'resume'} <= set(functions)\n"
        "assert all(inspect.isfunction(getattr(megavit, name)) for name in functions), functions\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_run_knows_its_folder_its_results_and_its_model(run: megavit.Run) -> None:
    assert run.bundle == run.folder / "bundle" and run.report == run.folder / "report.html"
    assert os.fspath(run) == str(run.folder)
    assert run.load().labels == tuple("0123456789")
    assert megavit.load(run).info.metrics == run.metrics.to_dict()
    assert json.loads(json.dumps(run.to_dict()))["test"]["images"] == 179
    assert len(repr(run)) < 1000


def test_python_and_the_command_train_the_same_model(run: megavit.Run, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        "[model]\npatch_size = 4\nchannels = 1\npreset = 'pico'\nimage_size = 8\n"
        "[run]\nprecision = 'float32'\nepochs = 2\n"
    )
    again = megavit.train("demo:digits", out=tmp_path / "again", recipe=recipe, device="cpu")
    weights = "model.safetensors"
    assert (again.bundle / weights).read_bytes() == (run.bundle / weights).read_bytes()
    assert again.to_dict()["test"] == run.to_dict()["test"]


def test_a_script_is_silent_and_a_reporter_of_ones_own_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Stopping(NullReporter):
        steps: list[int] = []  # noqa: RUF012

        def step(self, step: int, steps: int, loss: float) -> None:
            self.steps.append(step)
            if step == 3:
                raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="--resume") as stopped:
        megavit.train(
            "demo:digits",
            out=tmp_path / "run",
            epochs=1,
            model="pico",
            image_size=8,
            settings=TINY,
            reporter=Stopping(),
        )
    assert Stopping.steps == [1, 2, 3]
    assert stopped.value.__notes__ == [f"from Python: megavit.resume({str(tmp_path / 'run')!r})"]
    run = megavit.resume(tmp_path / "run")
    assert run.folder == tmp_path / "run" and run.metrics.images == 179
    assert capfd.readouterr() == ("", "")


def test_without_a_folder_the_run_is_named_after_the_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr("megavit.training.run.train", lambda data, out, **rest: seen.append((data, out)))
    megavit.train(Path("photos"))
    assert seen == [(Path("photos"), Path("runs/photos"))]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="same folder"):
        megavit.train("photos")


def test_data_are_python_objects_too(tmp_path: Path) -> None:
    images, labels = load_digits(n_class=3, return_X_y=True)
    data = (images.reshape(-1, 8, 8) / 16, labels)
    run = megavit.train(data, out=tmp_path / "run", epochs=1, model="pico", image_size=8, settings=TINY)
    assert run.load().labels == ("0", "1", "2")
    assert megavit.evaluate(run, data).metrics.to_dict()["images"] == run.metrics.to_dict()["images"] == 54
    assert megavit.check(data, skip_labels=True).images.source == "images in memory"


def test_several_processes_are_started_by_torchrun_or_the_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"megavit train --nproc 4, or with torchrun"):
        megavit.train("demo:digits", out=tmp_path / "run", settings={"parallel": {"nproc": 4}})
    assert not (tmp_path / "run").exists()


def test_only_the_processes_of_a_resumed_run_may_differ(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave out run"):
        megavit.resume(tmp_path, settings={"run": {"seed": 1}})
    with pytest.raises(BundleError, match="no run to resume"):
        megavit.resume(tmp_path)


def test_an_unknown_reporter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reporter must be one of auto, terminal, notebook"):
        megavit.train("demo:digits", out=tmp_path / "run", reporter="bar")  # type: ignore[arg-type]
