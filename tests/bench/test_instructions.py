from pathlib import Path

import torch

from megavit.bench.inference import name_onnxruntime
from megavit.bench.instructions import LIMITS, describe_limits, list_instructions, read_limits
from megavit.bench.run import describe_machine

ZEN_4 = "model name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni amd_lbr_v2\n"
GRAVITON_3 = "processor\t: 0\nFeatures\t: fp asimd sve bf16 i8mm\n"


def test_the_instructions_that_matter_are_named_on_x86_and_arm(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    for text, expected in (
        (ZEN_4, ["AVX2", "AVX-512", "AVX-512 VNNI", "AVX-512 bfloat16"]),
        (GRAVITON_3, ["SVE", "Arm bfloat16", "Arm int8"]),
        ("", []),
    ):
        file.write_text(text)
        assert list_instructions(file) == expected
    assert list_instructions(tmp_path / "missing") == []


def test_limits_are_told_with_the_machine(monkeypatch) -> None:
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    cpu = torch.device("cpu")
    assert read_limits() == {} and "limits" not in describe_machine(cpu)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    limits = describe_machine(cpu)["limits"]
    assert limits == {"ONEDNN_MAX_CPU_ISA": "AVX2"} and "ONEDNN_MAX_CPU_ISA=AVX2" in describe_limits(limits)
    assert describe_machine(cpu)["instructions"] == list_instructions()


def test_a_contender_that_is_not_limited_is_marked(monkeypatch) -> None:
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    assert name_onnxruntime(", dynamic") == "timm in ONNX Runtime, dynamic"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert name_onnxruntime() == "timm in ONNX Runtime, not limited"
