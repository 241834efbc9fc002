import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from megavit.errors import BundleError, ConfigError, Interrupted
from megavit.predict.predictor import load
from megavit.training.checkpoint.checkpoint import list_checkpoints
from megavit.training.clock import Clock
from megavit.training.extend import Extension, check_extendable, extend_recipe
from megavit.training.progress import NullReporter
from megavit.training.run import resume, train
from megavit.training.run_dir import read_plan
from megavit.training.tracking.log import read_log
from tests.helpers.listener import Listener
from tests.helpers.training import read_validations
from tests.helpers.training_process import read_manifest, read_weights

CHANGES = {
    "model": {"dropout": 0.1},
    "run": {"epochs": 2, "batch_size": 128, "device": "cpu", "precision": "float32", "checkpoint_seconds": 1e6},
}
STEPS = 20  # in the two epochs of 1,258 images
MORE = Extension(epochs=1)


@dataclass
class Told(Listener):
    """A reporter that keeps what is said, and asks the process to stop after a step."""

    stop_after: int = 0

    def step(self, step: int, steps: int, loss: float) -> None:
        if step == self.stop_after:
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train("demo:digits", folder, recipe="demo", overrides=CHANGES, reporter=NullReporter())
    return folder


@pytest.fixture(scope="module")
def extended(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    """The same run, extended by one epoch."""
    folder, said = tmp_path_factory.mktemp("extended") / "run", Told()
    shutil.copytree(finished, folder)
    resume(folder, reporter=said, extension=MORE)
    return folder, said


def copy_of(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / "run"))


def test_an_extension_goes_on_from_the_last_step_with_a_risen_learning_rate(finished, extended):
    folder, said = extended
    before, after = read_validations(finished), read_validations(folder)
    assert after[: len(before)] == before and before[-1]["step"] == STEPS
    assert after[-1]["step"] == STEPS + STEPS // 2 and after[-1]["epoch"] == 3
    first, *_, last = [record["learning_rate"] for record in after[len(before) :]]
    assert first > 10 * before[-1]["learning_rate"] and last < first / 10
    assert any(line.startswith(f"extending the run after step {STEPS}") for line in said.lines)
    assert {"event": "extension", "step": STEPS} in read_log(folder / "log.jsonl")
    assert read_plan(folder).recipe.run.epochs == 3
    assert "after epoch 2 (step 20); the learning rate rose again" in (folder / "report.html").read_text()


def test_the_bundle_has_the_best_validation_of_all_parts(finished, extended):
    folder, _ = extended
    numbers = read_manifest(folder)
    best = max(record["val_metric"] for record in numbers["history"])
    assert numbers["history"][numbers["best_epoch"]]["val_metric"] == best
    assert numbers["extended_at"] == [STEPS]
    assert read_weights(folder) != read_weights(finished)
    load(folder, verify=True)


def test_a_stop_during_an_extension_changes_nothing_in_its_result(finished, extended, tmp_path):
    run = copy_of(finished, tmp_path)
    with pytest.raises(Interrupted, match=f"after step 23 of {STEPS + STEPS // 2}"):
        resume(run, reporter=Told(stop_after=23), extension=MORE)
    assert read_weights(run) == read_weights(finished)  # the old bundle serves until the end
    load(run, verify=True)
    with pytest.raises(ConfigError, match="is not finished, so it cannot be extended yet"):
        resume(run, reporter=NullReporter(), extension=MORE)
    resume(run, reporter=NullReporter())
    assert read_weights(run) == read_weights(extended[0])


def test_an_extension_that_was_killed_before_its_first_checkpoint_begins_anew(finished, extended, tmp_path):
    run = copy_of(finished, tmp_path)
    with pytest.raises(Interrupted):
        resume(run, reporter=Told(stop_after=21), extension=MORE)
    shutil.rmtree(list_checkpoints(run / "checkpoints")[0])
    resume(run, reporter=NullReporter())
    assert read_weights(run) == read_weights(extended[0])


def test_an_extended_run_can_be_extended_again_by_minutes(extended, tmp_path):
    run, said = copy_of(extended[0], tmp_path), Told()
    resume(run, reporter=said, clock=Clock(), extension=Extension(minutes=0.1))
    numbers, plan = read_manifest(run), read_plan(run)
    assert numbers["extended_at"] == [STEPS, STEPS + STEPS // 2] and numbers["progress"] == 1
    assert plan.length is not None and plan.length.time is not None and plan.length.time.total == pytest.approx(6)
    assert plan.recipe.run.epochs is None and plan.recipe.run.minutes > 0.1
    assert "and epoch 3 (step 30)" in (run / "report.html").read_text()


def test_a_damaged_last_checkpoint_is_named_before_anything_is_changed(finished, tmp_path):
    run = copy_of(finished, tmp_path)
    plan = (run / "plan.json").read_bytes()
    tensors = list_checkpoints(run / "checkpoints")[0] / "state.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        resume(run, reporter=NullReporter(), extension=MORE)
    assert (run / "plan.json").read_bytes() == plan
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(BundleError, match=r"has no checkpoint.*--from"):
        resume(run, reporter=NullReporter(), extension=MORE)


def test_a_fine_tuned_run_says_how_its_bundle_is_trained_further(finished):
    plan = read_plan(finished)
    tuned = replace(plan, length=None, pretrained="0" * 64)
    with pytest.raises(ConfigError, match=r"only a run from scratch can be .* megavit train demo:digits --from"):
        check_extendable(finished, tuned)


@pytest.mark.parametrize("length", [{}, {"epochs": 1, "minutes": 1.0}, {"epochs": 0}, {"minutes": 0.0}])
def test_an_extension_has_either_epochs_or_minutes(length):
    with pytest.raises(ConfigError):
        Extension(**length)


def test_the_recipe_of_an_extended_run_has_its_whole_length(finished):
    plan = read_plan(finished)
    numbers = check_extendable(finished, plan)
    assert extend_recipe(plan.recipe, numbers, Extension(epochs=3)).run.epochs == 5
    by_time = extend_recipe(plan.recipe, numbers, Extension(minutes=3)).run
    assert by_time.epochs is None and by_time.minutes == pytest.approx(3 + numbers.seconds / 60)
