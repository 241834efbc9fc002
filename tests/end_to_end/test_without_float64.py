"""What a device computes is never in float64, which a Mac's GPU does not have: statistics are the CPU's work.

No such GPU is needed: the code that a device runs is known by its modules, and must not make such tensors on a CPU.
"""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from megavit.model import pos_embed
from tests.end_to_end.conftest import QUICK
from tests.helpers.command_line import run_megavit

SOURCE = Path(pos_embed.__file__).parents[1]
ON_DEVICE = ("model/", "training/loop/", "training/optim/optimizer.py", "training/optim/muon.py", "training/state.py")
ON_DEVICE += ("predict/forward.py", "engine/engine.py", "data/augment.py", "explain/", "training/finetune/finetuner.py")
# Metrics and probabilities of logits that were copied from the device.
ON_CPU = ("training/loop/validation.py", "model/outputs/logits.py")
OPERATORS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}


class WithoutFloat64(TorchDispatchMode):
    """A mode that collects the lines of device code that make float64 tensors, and counts its matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        self.products += func in OPERATORS
        if any(
            isinstance(value, torch.Tensor) and value.dtype == torch.float64 for value in _pytree.tree_leaves(results)
        ):
            self._blame()
        return results

    def _blame(self) -> None:
        frame = sys._getframe()
        while frame := frame.f_back:
            file = Path(frame.f_code.co_filename)
            if file.is_relative_to(SOURCE):
                name = file.relative_to(SOURCE).as_posix()
                if name.startswith(ON_DEVICE) and name not in ON_CPU:
                    self.found.add(f"{name}:{frame.f_lineno}")
                return


@pytest.fixture
def mode():
    with WithoutFloat64() as mode:
        yield mode


def test_the_mode_finds_what_it_is_for(mode):
    table = pos_embed.LearnedPositions.__new__(pos_embed.LearnedPositions)
    torch.nn.Module.__init__(table)
    table.grid, table.table = (2, 2), torch.nn.Parameter(torch.ones(4, 8))
    table.at((3, 3))
    assert any(line.startswith("model/pos_embed.py:") for line in mode.found)


def test_no_training_and_no_prediction_needs_it(digits, tmp_path, mode, monkeypatch):
    monkeypatch.setattr("megavit.engine.engine.Engine._can_use_openvino", lambda self: False)  # as on a GPU
    quick = [*QUICK, "--model", "pico"]
    for name, flags in (("folder", quick), ("aspect", [*quick, "--keep-aspect"])):
        done = run_megavit("train", digits, "--out", name, *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    for command in (("predict",), ("embed", "--out", "out.npz"), ("explain", "--out", "maps"), ("evaluate",)):
        verb, *flags = command
        done = run_megavit(verb, "folder", digits if verb == "evaluate" else digits / "digit 1", *flags, cwd=tmp_path)
        assert done.returncode in (0, 2), done.stderr  # one of the images is none
    assert mode.products > 100
    assert mode.found == set()


def test_positions_for_images_of_another_size_are_the_cpu_s_work_where_the_device_has_none(mode, monkeypatch):
    devices = []
    monkeypatch.setattr(pos_embed, "has_float64", lambda device: devices.append(device) or False)
    weights = pos_embed._resampling_weights
    monkeypatch.setattr(
        pos_embed, "_resampling_weights", lambda old, new, device: devices.append(device) or weights(old, new, device)
    )
    table = pos_embed.LearnedPositions.__new__(pos_embed.LearnedPositions)
    torch.nn.Module.__init__(table)
    table.grid, table.table = (2, 2), torch.nn.Parameter(torch.randn(4, 8))
    resampled = table.at((3, 5))
    assert devices == [torch.device("cpu")] * 3
    assert resampled.dtype == torch.float32 and resampled.device == table.table.device
    resampled.sum().backward()
    assert table.table.grad is not None and table.table.grad.isfinite().all()
