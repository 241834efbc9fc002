import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from megavit.config.recipe import Recipe, RunRecipe
from megavit.errors import ConfigError
from megavit.training.tracking import trackers, tracking
from megavit.training.tracking.log import append_line
from megavit.training.tracking.trackers import check_tracker
from tests.helpers.listener import Listener
from tests.helpers.stub_trackers import FAILING, HANGING, RUN, install_stubs
from tests.helpers.training import make_context
from tests.helpers.waiting import wait_until


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose process finds `wandb` in tmp_path/site."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.toml").write_text("[run]\nepochs = 3\n")
    return run


RECIPE = Recipe(run=RunRecipe(track="wandb"))


def test_what_is_logged_until_the_end_reaches_the_tracker(run_dir, tmp_path):
    install_stubs(tmp_path / "site", wandb=RUN)
    said = Listener()
    with tracking.tracking(make_context(run_dir, reporter=said), RECIPE) as ctx:
        for step in (1, 2, 3):
            append_line(run_dir / "log.jsonl", "step", {"step": step, "loss": 0.5})
        ctx.check_tracker()
    recorded = [json.loads(line) for line in (tmp_path / "recorded.jsonl").read_text().splitlines()]
    assert [entry[2] for entry in recorded if entry[0] == "log"] == [1, 2, 3] and recorded[-1] == ["end"]
    assert said.lines == []


def test_a_tracker_that_fails_is_said_once_and_the_run_goes_on(run_dir, tmp_path):
    install_stubs(tmp_path / "site", wandb=FAILING)
    said, logged = Listener(), 0
    with tracking.tracking(make_context(run_dir, reporter=said), RECIPE) as ctx:

        def has_failed() -> bool:
            ctx.check_tracker()
            return bool(said.lines)

        wait_until(has_failed)
        for _ in range(3):
            logged += 1
            ctx.check_tracker()
    assert logged == 3
    (line,) = said.lines
    assert line.startswith("the tracker wandb has failed: RuntimeError: the server said no") and "log.jsonl" in line


def test_a_tracker_that_hangs_is_left_after_its_time(run_dir, tmp_path, monkeypatch):
    install_stubs(tmp_path / "site", wandb=HANGING)
    monkeypatch.setattr(tracking, "GRACE_SECONDS", 0.2)
    said = Listener()
    with tracking.tracking(make_context(run_dir, reporter=said), RECIPE):
        append_line(run_dir / "log.jsonl", "step", {"step": 1, "loss": 0.5})
    (line,) = said.lines
    assert "did not take everything" in line


def test_a_library_that_is_missing_is_named_with_its_install_before_anything_is_read(monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'megavit\[trackio\]'"):
        check_tracker("trackio")
    check_tracker(None)


def test_without_a_tracker_nothing_is_started(run_dir):
    ctx = make_context(run_dir)
    with tracking.tracking(ctx, replace(RECIPE, run=RunRecipe())) as same:
        assert same is ctx
    assert not (run_dir / "tracker.log").exists()
