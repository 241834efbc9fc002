from dataclasses import replace

import pytest
import torch

from megavit.errors import ConfigError
from megavit.runtime.process_group import DistContext, ranks
from tests.helpers.distributed.torchrun import torchrun

AGENT = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "TORCHELASTIC_RESTART_COUNT": "2"}


def test_a_process_that_no_agent_started_is_alone(monkeypatch):
    for name in AGENT:
        monkeypatch.delenv(name, raising=False)
    assert ranks() == DistContext() and not ranks().many and ranks().leads


def test_a_process_knows_its_place_by_what_its_agent_says(monkeypatch):
    for name, value in AGENT.items():
        monkeypatch.setenv(name, value)
    assert ranks() == DistContext(rank=3, world=4, local=1, restarts=2)
    assert ranks().many and not ranks().leads
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert ranks() == DistContext(restarts=2) and not ranks().many


@pytest.mark.parametrize(("name", "value"), [("RANK", "4"), ("RANK", "-1"), ("RANK", ""), ("WORLD_SIZE", "many")])
def test_an_environment_that_no_agent_would_make_is_told(monkeypatch, name, value):
    for key, usual in (AGENT | {name: value}).items():
        monkeypatch.setenv(key, usual)
    with pytest.raises(ConfigError, match=f"{name} .*as torchrun sets"):
        ranks()


def test_processes_that_do_not_know_where_they_meet_are_told(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ConfigError, match="MASTER_ADDR"), DistContext(rank=0, world=2).joined(torch.device("cpu"), 1.0):
        pass


def test_alone_nothing_is_joined_and_every_question_is_answered_here():
    alone = DistContext()
    with alone.joined(torch.device("cpu"), 1.0):
        assert not torch.distributed.is_initialized()
        assert alone.first(lambda: 5) == 5 and alone.every("a") == ["a"]


def test_several_processes_do_not_share_one_gpu():
    many = replace(DistContext(), world=2)
    with pytest.raises(ConfigError, match="GPU"):
        many.device("cuda:0")
    assert many.device("cpu") == torch.device("cpu")


def test_processes_agree_and_one_that_does_not_come_ends_the_wait(tmp_path):
    answer = torchrun(2, "tests.helpers.distributed.late_2proc", tmp_path)
    assert answer["first"] == 0 and answer["every"] == [0, 10]
    assert answer["refused"] == ["the disk is full"] * 2
    assert "has lost another one" in answer["lost"] and answer["seconds"] >= 1.9
