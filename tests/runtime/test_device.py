"""The device of a name, or a sentence on why there is none."""

from pathlib import Path

import pytest
import torch

from megavit.errors import ConfigError
from megavit.runtime.device import device_name, pick_device


def test_auto_is_the_gpu_where_there_is_one():
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_auto_takes_cuda_when_torch_sees_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda")


def test_the_processor_is_always_there():
    assert pick_device("cpu") == torch.device("cpu")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(ConfigError, match=r"device cuda:1 does not exist.* 1 CUDA devices"):
        pick_device("cuda:1")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:-1", "meta"])
def test_a_name_that_is_no_device_of_ours_is_refused(name):
    with pytest.raises(ConfigError, match="auto, cpu, cuda or cuda:N"):
        pick_device(name)


def test_a_gpu_number_beyond_what_torch_counts_to_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    with pytest.raises(ConfigError, match="cuda:256"):  # torch takes numbers modulo 256
        pick_device("cuda:256")


def test_the_processor_is_named_with_its_threads():
    assert device_name(torch.device("cpu")).endswith(f", {torch.get_num_threads()} threads")


def test_the_processor_has_a_name_where_the_system_lists_none(monkeypatch):
    def missing(*_args, **_options):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    name, _, threads = device_name(torch.device("cpu")).rpartition(", ")
    assert name
    assert threads == f"{torch.get_num_threads()} threads"
