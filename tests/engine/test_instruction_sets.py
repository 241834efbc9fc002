"""The engine on lesser processors, for which oneDNN's limit of instructions stands in, in PyTorch and in OpenVINO."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import json
import torch
from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import preset
from megavit.engine.engine import Engine, check_precision
from megavit.engine.int8 import calibrate
from megavit.engine.openvino import OpenVino
from megavit.errors import ConfigError
from megavit.model.vit import MegaVit
from megavit.runtime.device import has_bfloat16
from megavit.runtime.seeds import seed_all

seed_all(0)
cpu, size = torch.device("cpu"), Preprocessing(height=8, width=8, channels=3)
model = MegaVit.from_config(preset("pico", num_classes=5)).eval()
torch.nn.init.normal_(model.mlp_head.weight)
images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
exact = Engine(model, size).run_pytorch(images).logits
answer = {"bfloat16": has_bfloat16(cpu), "errors": {}, "notes": {}}


def note_error(name, logits):
    answer["errors"][name] = ((logits - exact).abs().max() / exact.abs().max()).item()


precisions = {"float32": None, "int8": calibrate(model, size, [images])}
try:
    check_precision("bfloat16", cpu)
    precisions["bfloat16"] = None
except ConfigError as error:
    answer["refused"] = str(error)
for precision, bounds in precisions.items():
    engine = Engine(model, size, precision, bounds)
    if bounds is None:
        engine.choose_runtime(images)
    note_error(precision, engine(images).logits)
    answer["notes"][precision] = engine.note
compiled = OpenVino(model, size, "float32")
note_error("OpenVINO", compiled(images)[1])
(graph,) = compiled._compiled.values()
kinds = [operation.get_rt_info() for operation in graph.get_runtime_model().get_ordered_ops()]
answer["kernels"] = sorted({kind["primitiveType"].astype(str) for kind in kinds if "primitiveType" in kind})
print(json.dumps(answer))
"""


def run(instructions: str, folder: Path) -> dict[str, Any]:
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions}
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("instructions", ["AVX2", "AVX512_CORE"])
def test_every_precision_that_there_is_computes_rightly_and_a_runtime_is_chosen(instructions, tmp_path) -> None:
    found = run(instructions, tmp_path)
    limits = {"float32": 1e-4, "OpenVINO": 1e-4, "bfloat16": 0.05, "int8": 0.1}
    assert all(error < limits[name] for name, error in found["errors"].items()), found["errors"]
    assert "times as fast as" in found["notes"]["float32"]
    assert found["notes"]["int8"] == "OpenVINO, in int8"
    assert ("bfloat16" in found["errors"]) == found["bfloat16"]
    if instructions == "AVX2":
        assert found["refused"] == "this device does not support bfloat16: use precision float32"
        products = [kernel for kernel in found["kernels"] if kernel.startswith(("brg", "gemm"))]
        assert products and not [kernel for kernel in products if "avx512" in kernel or "amx" in kernel]
