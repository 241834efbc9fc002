"""Several processes pretrain as one does with the same images and views, and go on after a stop."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import megavit
from megavit.cli import launcher
from megavit.cli.app import run as run_command
from megavit.errors import ConfigError
from megavit.runtime.process_group import DistContext
from megavit.training.pretraining.settings import draft_recipe, override_processes
from megavit.weights.bundle.bundle import load_bundle
from tests.helpers.digits import make_digits_folder
from tests.helpers.distributed.torchrun import torchrun
from tests.helpers.listener import Listener
from tests.helpers.shared_folder import BuildOnce

TWO = DistContext(world_size=2)


@pytest.fixture(scope="session")
def folder(build_once: BuildOnce) -> Path:
    """What two processes wrote: an answer, and runs that nobody stopped, that went on, and that stopped."""

    def fill(folder: Path) -> None:
        make_digits_folder(folder / "digits", range(3), slice(0, 24))
        torchrun(2, "tests.helpers.distributed.pretraining_2proc", folder)

    return build_once("pretraining", fill)


@pytest.fixture(scope="session")
def answer(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "answer.json").read_text())


def test_two_processes_have_the_loss_and_the_gradient_of_one(answer: dict[str, Any]) -> None:
    assert answer["losses of two"] == pytest.approx(answer["losses of one"], abs=1e-6)
    assert answer["gradient"] < 1e-5 and answer["variance"] < 1e-5


def test_two_stopped_processes_go_on_to_the_same_bits(folder: Path, answer: dict[str, Any]) -> None:
    assert answer["stopped"].startswith("stopped as requested after step 5 of 9; all progress is saved: resume it")
    undisturbed, resumed = ((folder / name / "bundle/model.safetensors").read_bytes() for name in ("run", "stopped"))
    assert undisturbed == resumed and answer["resumed"]["epochs"] == 2


def test_one_process_goes_on_with_the_run_of_two(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "alone", tmp_path / "run")
    listener = Listener()
    done = megavit.resume_pretraining(tmp_path / "run", reporter=listener)
    assert any(line.startswith("resuming after step 5") for line in listener.lines)
    assert done.epochs == 2 and done.effective_rank > 1


def test_the_bundle_of_two_is_read_by_embed_and_train(folder: Path, answer: dict[str, Any], tmp_path: Path) -> None:
    assert answer["code"] == 0
    run, images = str(folder / "run"), str(folder / "digits")
    assert load_bundle(folder / "run/bundle", verify=True).info.recipe["parallel"]["nproc"] == 2
    assert run_command(["embed", run, images, "--out", str(tmp_path / "features.npz")]) == 0
    with np.load(tmp_path / "features.npz") as features:
        assert features["embedding"].shape == (72, 64)
    command = ["train", images, "--from", run, "--finetune", "probe", "--epochs", "1", "--device", "cpu"]
    assert run_command([*command, "--out", str(tmp_path / "run")]) == 0
    assert load_bundle(tmp_path / "run/bundle").info.labels == ["0", "1", "2"]


def test_the_command_starts_processes_that_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(launcher, "launch", lambda *arguments, **_: started.append(arguments) or 3)
    monkeypatch.chdir(tmp_path)
    for arguments in (["pretrain", "photos", "--nproc", "2"], ["pretrain", "--resume", "run", "--nproc", "2"]):
        monkeypatch.setattr(sys, "argv", ["megavit", *arguments])
        assert run_command(arguments) == 3
    assert started == [
        (2, ["pretrain", "photos", "--nproc", "2", "--out", "runs/photos"]),
        (2, ["pretrain", "--resume", "run", "--nproc", "2"]),
    ]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="pass it with --out"):
        megavit.pretrain("photos")


@pytest.mark.parametrize(
    ("settings", "dist", "message"),
    [
        ({"parallel": {"fsdp": 2}}, TWO, "each process has the whole model: leave out fsdp and tp"),
        ({"parallel": {"tp": 2}}, TWO, "each process has the whole model"),
        ({"parallel": {"nproc": 2}}, DistContext(), "megavit pretrain --nproc 2"),
    ],
)
def test_layouts_that_do_not_fit_are_refused(settings: dict[str, Any], dist: DistContext, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draft_recipe(settings, dist)


def test_a_resumed_run_has_the_processes_that_were_started() -> None:
    recipe = draft_recipe({"model": {"pretrained": "some"}}, DistContext())
    assert recipe.parallel.nproc == 1
    resumed = override_processes(recipe, {}, TWO)
    assert resumed.parallel.nproc == 2 and resumed.run.gradient_accumulation == 1
    with pytest.raises(ConfigError, match="leave out fsdp and tp"):
        override_processes(recipe, {"fsdp": 2}, TWO)
    with pytest.raises(ConfigError, match="leave out run"):
        megavit.resume_pretraining("run", settings={"run": {"epochs": 2}})
