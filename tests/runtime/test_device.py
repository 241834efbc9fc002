"""The device of a name, or a sentence on why there is none; and what each kind of device lacks."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from megavit.errors import ConfigError
from megavit.runtime import device as module
from megavit.runtime.device import (
    KINDS,
    copies_ahead,
    device_name,
    has_bfloat16,
    has_float64,
    pick_device,
    pins_memory,
    total_memory,
)
from megavit.runtime.memory import main_memory
from megavit.runtime.process_group import DistContext

CPU, CUDA, MPS, XPU = (torch.device(kind) for kind in ("cpu", "cuda", "mps", "xpu"))


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many accelerators of a kind, or without any."""

    def have(kind: str | None, count: int = 1) -> None:
        there_is = None if kind is None else torch.device(kind)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: there_is)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count if kind else 0)

    return have


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_auto_is_the_accelerator_that_torch_sees(machine, kind):
    machine(kind)
    assert pick_device("auto") == torch.device(kind)
    assert pick_device(kind) == torch.device(kind)
    assert pick_device("cpu") == CPU


def test_auto_is_the_processor_where_there_is_no_accelerator(machine):
    machine(None)
    assert pick_device("auto") == CPU == pick_device("cpu")


def test_an_accelerator_that_nothing_is_known_of_is_left_alone(machine):
    machine("hpu")
    assert pick_device("auto") == CPU
    assert not pins_memory()


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_a_gpu_that_is_not_there_is_refused(machine, kind):
    machine(kind, 2)
    assert pick_device(f"{kind}:1") == torch.device(f"{kind}:1")
    with pytest.raises(ConfigError, match=rf"device {kind}:2 does not exist: torch sees 2 of {kind}; try auto or cpu"):
        pick_device(f"{kind}:2")


@pytest.mark.parametrize(("name", "there_is"), [("cuda", "mps"), ("mps", "cuda"), ("xpu", "cuda"), ("cuda:0", "xpu")])
def test_a_gpu_of_another_kind_is_refused(machine, name, there_is):
    machine(there_is)
    with pytest.raises(ConfigError, match=rf"device {name} does not exist: torch sees 1 of {there_is}"):
        pick_device(name)


@pytest.mark.parametrize("name", ["cuda", "mps", "xpu"])
def test_without_any_gpu_that_is_said(machine, name):
    machine(None)
    with pytest.raises(ConfigError, match=rf"device {name} does not exist: torch sees no GPU; try auto or cpu"):
        pick_device(name)


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:-1", "mps:0", "xpu:x", "meta", "CUDA"])
def test_a_name_that_is_no_device_of_ours_is_refused(name):
    with pytest.raises(ConfigError, match="auto, cpu, cuda, cuda:N, mps, xpu or xpu:N"):
        pick_device(name)


def test_a_gpu_number_beyond_what_torch_counts_to_is_refused(machine):
    machine("cuda", 8)
    with pytest.raises(ConfigError, match="cuda:256"):  # torch takes numbers modulo 256
        pick_device("cuda:256")


@pytest.mark.parametrize(("kind", "expected"), [("cuda", "cuda:1"), ("xpu", "xpu:1"), ("mps", "cpu"), (None, "cpu")])
def test_each_of_several_processes_has_a_gpu_of_its_own_if_they_can_talk(machine, kind, expected):
    machine(kind, 2)
    many = replace(DistContext(), rank=3, world_size=4, local_rank=1)
    assert many.pick_device("auto") == torch.device(expected)
    assert many.pick_device("cpu") == CPU


def test_several_processes_do_not_share_a_mac_s_gpu(machine):
    machine("mps")
    with pytest.raises(ConfigError, match="several processes cannot share mps: use --device cpu, or one process"):
        replace(DistContext(), world_size=2).pick_device("mps")


def test_what_each_kind_of_device_lacks(machine):
    assert [kind for kind in KINDS if not KINDS[kind].float64] == ["mps", "xpu"]
    assert [kind for kind in KINDS if KINDS[kind].copies_ahead] == ["cuda"]
    assert [kind for kind in KINDS if not KINDS[kind].compiles] == ["mps"]
    assert {kind: KINDS[kind].collectives for kind in KINDS} == {
        "cpu": "gloo",
        "cuda": "nccl",
        "mps": None,
        "xpu": "xccl",
    }
    for device in (CPU, torch.device("cuda:1"), torch.device("meta")):
        assert has_float64(device)
    assert not has_float64(MPS) and not copies_ahead(MPS) and not copies_ahead(torch.device("meta"))
    for kind, pins in (("cuda", True), ("mps", False), ("xpu", False), (None, False)):
        machine(kind)
        assert pins_memory() == pins


def test_bfloat16_is_used_where_it_is_not_emulated(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: (major, minor) <= (14, 0))
    assert has_bfloat16(MPS)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: (major, minor) <= (13, 3))
    assert not has_bfloat16(MPS)
    for real in (True, False):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation, real=real: including_emulation or real
        )
        monkeypatch.setattr(
            torch.xpu, "is_bf16_supported", lambda including_emulation, real=real: including_emulation or real
        )
        assert has_bfloat16(CUDA) == has_bfloat16(XPU) == real


def test_a_processor_without_onednn_as_in_a_mac_has_no_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.delattr(torch.ops, "mkldnn")
    assert not has_bfloat16(CPU)


def test_memory_and_name_are_the_device_s(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1, 80 + device.index))
    monkeypatch.setattr(torch.xpu, "mem_get_info", lambda device: (1, 16))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    monkeypatch.setattr(torch.xpu, "get_device_name", lambda device: "Intel Arc")
    assert [total_memory(device) for device in (torch.device("cuda:1"), XPU, MPS, CPU)] == [81, 16, 12, main_memory()]
    assert [device_name(device) for device in (CUDA, XPU, MPS)] == ["NVIDIA H100", "Intel Arc", "Apple GPU"]


def test_the_processor_is_named_with_its_threads():
    assert device_name(CPU).endswith(f", {torch.get_num_threads()} threads")


def test_the_processor_has_a_name_where_the_system_lists_none(monkeypatch):
    def missing(*_args, **_options):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    name, _, threads = device_name(CPU).rpartition(", ")
    assert name
    assert threads == f"{torch.get_num_threads()} threads"


def test_a_mac_s_processor_is_asked_for_by_its_own_command(monkeypatch, tmp_path):
    (tmp_path / "sysctl").write_text('#!/bin/sh\n[ "$*" = "-n machdep.cpu.brand_string" ] && echo Apple M9\n')
    (tmp_path / "sysctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module.sys, "platform", "darwin")
    assert device_name(CPU).startswith("Apple M9, ")
