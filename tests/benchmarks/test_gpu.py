"""The measurements of a GPU run to their end where there is none, and need nothing but PyTorch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.gpu import float8, page
from megavit.config.presets import preset
from megavit.model.vit import MegaVit

ROOT = Path(__file__).parents[2]
OTHERS = ("numpy", "safetensors", "torchvision", "PIL", "rich", "pydantic", "timm", "sklearn", "scipy", "psutil")
WITHOUT = f"""
import runpy, sys, warnings
warnings.filterwarnings("ignore", message=".*[Nn]um[Pp]y")
sys.modules.update(dict.fromkeys({OTHERS}))  # their import fails
sys.argv = ["gpu", "--device", "cpu", "--out", sys.argv[1]]
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""


def test_the_measurements_run_to_their_end_on_a_cpu_with_pytorch_alone(tmp_path):
    command = [sys.executable, "-c", WITHOUT, str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    figures = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert all(part.get("ok", True) and "skipped" not in part for part in figures["parts"])
    assert {part["heading"] for part in figures["parts"]} == page.TITLES.keys()
    written = (tmp_path / "out" / "gpu.md").read_text()
    assert written == done.stdout
    assert written.startswith(f"# megavit on {figures['about']['device']}")
    assert "Everything is as it must be" in written and "nothing about a GPU" in written
    assert [row["design"] for row in figures["parts"][0]["rows"]][::4] == ["megavit", "plain", "hybrid", "rotary"]


def test_the_page_says_what_failed_and_what_was_left_out():
    parts = [
        {"heading": "correctness", "name": "resumed", "ok": False, "error": "RuntimeError: no | luck"},
        {"heading": "training", "name": "S/16, compiled", "MFU": 0.351, "images/s": 12345.6, "ok": True},
        {"heading": "training", "name": "L/16, compiled", "skipped": "no time was left"},
    ]
    written = page.render({"about": {"device": "a card"}, "parts": parts})
    assert "**Not as it must be: resumed.**" in written and "Left out: L/16, compiled." in written
    assert "nothing about a GPU" not in written and "no / luck" in written
    assert "| S/16, compiled | 35.1% | 12,346 | yes |  |" in written
    assert "| L/16, compiled |  |  |  | no time was left |" in written


def test_products_in_float8_are_near_those_in_float32_and_so_are_their_gradients():
    torch.manual_seed(0)
    exact = nn.Linear(32, 48)
    low = nn.Linear(32, 48)
    low.load_state_dict(exact.state_dict())
    low.__class__ = float8.Float8Linear
    x = torch.randn(2, 16, 32)
    found = []
    for layer in (exact, low):
        inputs = x.clone().requires_grad_()
        output = layer(inputs).float()
        parts = [inputs, *layer.parameters()]
        found.append([output, *torch.autograd.grad((output * torch.linspace(-1, 1, 48)).sum(), parts)])
    for expected, near in zip(*found, strict=True):
        assert (near - expected).norm() < 0.1 * expected.norm()
    assert not torch.equal(found[0][0], found[1][0])


def test_every_layer_of_the_model_takes_float8():
    model = MegaVit.from_config(preset("pico", num_classes=3))
    float8.use_float8(model)
    changed = [name for name, module in model.named_modules() if isinstance(module, float8.Float8Linear)]
    assert len(changed) == 4 * model.config.depth
    assert not any("head" in name or "patch" in name for name in changed)


@pytest.mark.parametrize("value", [0.0, 1e30])
def test_values_of_any_size_fit_into_float8(value):
    x = torch.full((16, 16), value)
    small, scale = float8.scaled(x, float8.E4M3)
    assert torch.allclose(small.float() * scale, x)
