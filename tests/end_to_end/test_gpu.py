"""A GPU computes what a CPU does, and Python waits for it only where it must; tried without one.

In a process of its own, PyTorch takes tensors of the CPU for those of a GPU (`tests.helpers.emulated_gpu`). What no
emulation shows, its kernels and its speed, is for benchmarks/gpu.py.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from megavit.config.presets import preset
from megavit.config.vit import PLAIN_VIT, Design
from megavit.data.augment import normalize
from megavit.model.vit import MegaVit
from tests.engine.test_openvino import preprocessing_of
from tests.helpers.shared_folder import BuildOnce

LOSS_READ = [["copy from the GPU", "training/loop/step.py:train_step"]]
# What a run waits for beside its steps: initial values, outputs, metrics, checkpoints.
ONCE_IN_A_WHILE = {
    "training/task.py:make_task",
    "training/optim/loss.py:make_loss",
    "model/init.py:initialize_module",
    "predict/forward.py:_run",
    "training/loop/logit_monitor.py:compute_max_logits",
    "weights/bundle/safetensors_io.py:<dictcomp>",
    "engine/engine.py:run_pytorch",
    "weights/bundle/bundle.py:_logits",
}


@pytest.fixture(scope="module")
def session(build_once: BuildOnce) -> dict[str, Any]:
    def fill(folder: Path) -> None:
        command = [sys.executable, "-W", "error", "-m", "tests.helpers.gpu_session", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        (folder / "answer.json").write_text(done.stdout)

    return json.loads((build_once("gpu", fill) / "answer.json").read_text())


def test_steps_are_those_of_the_cpu(session):
    for name, both in session["steps"].items():
        cpu, gpu = both["cpu"], both["emulated:0"]
        within = 1e-2 if name == "bfloat16" else 1e-6  # a GPU casts other operations than a CPU
        for part in ("losses", "average"):
            found, expected = torch.tensor(gpu[part]), torch.tensor(cpu[part])
            assert torch.allclose(found, expected, atol=within, rtol=0), (name, part)


def test_a_step_waits_for_the_gpu_once(session):
    waits = {name: both["emulated:0"]["waits"] for name, both in session["steps"].items()}
    assert waits == dict.fromkeys(waits, LOSS_READ)


def test_what_a_step_must_not_do_is_found(session):
    faults = session["faults"]
    assert ["_local_scalar_dense", "training/loop/step.py:accumulate_gradient"] in faults["hidden_wait"]
    assert faults["host_copy"].count(LOSS_READ[0]) == 2
    assert "expected all tensors on one device" in faults["wrong_device"]


def test_a_run_learns_as_on_the_cpu_and_reads_its_batches_ahead(session):
    for cpu, gpu in zip(session["runs"]["cpu"], session["runs"]["gpu"], strict=True):
        for name in ("train_loss", "val_loss", "attention_logit"):
            assert gpu[name] == pytest.approx(cpu[name], rel=1e-3)
        assert gpu["val_metric"] == cpu["val_metric"]
    waits = session["waits"]["train"]
    steps = session["runs"]["gpu"][-1]["step"]
    assert waits.pop("training/loop/step.py:train_step") == steps
    assert waits.keys() <= ONCE_IN_A_WHILE
    assert session["pinned"] > 0


def test_a_bundle_answers_as_on_the_cpu(session):
    assert session["device"] == "emulated:0"
    cpu, gpu = session["uses"]["cpu"], session["uses"]["gpu"]
    assert torch.allclose(torch.tensor(gpu["embed"]), torch.tensor(cpu["embed"]), atol=1e-5)
    for expected, found in zip(cpu["predict"], gpu["predict"], strict=True):
        assert [label for label, _ in found] == [label for label, _ in expected]
        assert [p for _, p in found] == pytest.approx([p for _, p in expected], abs=1e-5)
    for expected, found in zip(cpu["explain"], gpu["explain"], strict=True):
        assert torch.allclose(torch.tensor(found), torch.tensor(expected), atol=1e-4)
    assert max(session["export"]) < 1e-4
    own = {name.partition(":")[0].partition("/")[0] for name in session["waits"]["use"]}
    assert own <= {"engine", "explain", "exporting"}, "only outputs are copied"


def test_measuring_waits_for_the_gpu(session):
    assert session["synchronizations"] >= 3, "one a step that is timed, and before"


HYBRID = Design(stem="conv", norm="batch")  # its norms are in float32 always
DESIGNS = [Design(), PLAIN_VIT, Design(positions="rope", registers=2)]


@pytest.mark.parametrize(
    ("design", "precision"),
    [(HYBRID, torch.float32), *((one, dtype) for one in DESIGNS for dtype in (torch.float32, torch.bfloat16))],
)
def test_cudas_own_types_and_kernels_take_every_design(design, precision, monkeypatch):
    config = preset("pico", num_classes=3, design=design)
    monkeypatch.setattr(MegaVit, "initialize", lambda self: None)  # draws until all values are in range
    torch.set_default_dtype(precision)
    try:
        with FakeTensorMode(), torch.no_grad(), torch.device("cuda"):
            model = MegaVit.from_config(config).eval()
            images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
            features = model.features(normalize(images, preprocessing_of(config)))
            logits = model.mlp_head(features.pooled)
    finally:
        torch.set_default_dtype(torch.float32)
    assert logits.device.type == features.patches.device.type == "cuda" and logits.dtype == precision
