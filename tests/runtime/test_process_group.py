import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from megavit.errors import ConfigError
from megavit.runtime.process_group import DistContext, get_dist_context
from tests.helpers.distributed.torchrun import torchrun
from tests.helpers.processes import wait_until_ended

AGENT = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "TORCHELASTIC_RESTART_COUNT": "2"}


def test_a_process_that_no_agent_started_is_alone(monkeypatch):
    for name in AGENT:
        monkeypatch.delenv(name, raising=False)
    assert (
        get_dist_context() == DistContext()
        and not get_dist_context().is_distributed
        and get_dist_context().is_main_process
    )


def test_a_process_knows_its_place_by_what_its_agent_says(monkeypatch):
    for name, value in AGENT.items():
        monkeypatch.setenv(name, value)
    assert get_dist_context() == DistContext(rank=3, world_size=4, local_rank=1, restarts=2)
    assert get_dist_context().is_distributed and not get_dist_context().is_main_process
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert get_dist_context() == DistContext(restarts=2) and not get_dist_context().is_distributed


@pytest.mark.parametrize(("name", "value"), [("RANK", "4"), ("RANK", "-1"), ("RANK", ""), ("WORLD_SIZE", "many")])
def test_an_environment_that_no_agent_would_make_is_told(monkeypatch, name, value):
    for key, usual in (AGENT | {name: value}).items():
        monkeypatch.setenv(key, usual)
    with pytest.raises(ConfigError, match=f"{name} .*as torchrun sets"):
        get_dist_context()


def test_processes_that_do_not_know_where_they_meet_are_told(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with (
        pytest.raises(ConfigError, match="MASTER_ADDR"),
        DistContext(rank=0, world_size=2).init_process_group(torch.device("cpu"), 1.0),
    ):
        pass


def test_alone_nothing_is_joined_and_every_question_is_answered_here():
    alone = DistContext()
    with alone.init_process_group(torch.device("cpu"), 1.0):
        assert not torch.distributed.is_initialized()
        assert alone.run_on_main(lambda: 5) == 5 and alone.all_gather("a") == ["a"]


def test_a_process_that_dies_with_its_agent_ends_when_that_is_killed():
    child = (
        "import time; from megavit.runtime.process_group import die_with_parent; die_with_parent();"
        " print(flush=True); time.sleep(3600)"
    )
    agent = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=subprocess.PIPE);"
        " child.stdout.readline(); print(child.pid, flush=True); child.wait()"
    )
    process = subprocess.Popen([sys.executable, "-c", agent, child], stdout=subprocess.PIPE)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.kill()
    process.communicate()
    wait_until_ended([worker])


def test_several_processes_do_not_share_one_gpu():
    many = replace(DistContext(), world_size=2)
    with pytest.raises(ConfigError, match="GPU"):
        many.pick_device("cuda:0")
    assert many.pick_device("cpu") == torch.device("cpu")


def test_processes_agree_and_one_that_does_not_come_ends_the_wait(tmp_path):
    answer = torchrun(2, "tests.helpers.distributed.late_2proc", tmp_path)
    assert answer["first"] == 0 and answer["every"] == [0, 10]
    assert answer["refused"] == ["the disk is full"] * 2
    assert "lost another process" in answer["lost"] and answer["seconds"] >= 1.9
