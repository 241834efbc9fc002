"""Signals still find a stack when graphs have come and gone in any order."""

import subprocess
import sys

import pytest

SCRIPT = """
import faulthandler, signal, subprocess, sys
faulthandler.enable()
import torch
from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import preset
from megavit.engine.openvino import OpenVino
from megavit.engine.openvino_runtime import get_signal_stack
from megavit.model.vit import MegaVit
model = MegaVit.from_config(preset("nano", num_classes=3)).eval()
images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
before = get_signal_stack()
graphs = [OpenVino(model, Preprocessing(height=32, width=32, channels=3), "float32") for _ in range(3)]
for graph in graphs:
    graph(images)
    assert get_signal_stack() == before, "a graph has left its stack behind"
del graph
for place in {order}:
    graphs[place] = None
    assert get_signal_stack() == before, "a graph that ends has put another stack back"
signal.signal(signal.SIGCHLD, lambda *_: None)
subprocess.run(["true"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux alone it is known")
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_signals_are_handled_after_graphs_ended_in_any_order(order: tuple[int, ...]) -> None:
    script = SCRIPT.replace("{order}", str(order))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


CALIBRATION = """
import faulthandler, torch
faulthandler.enable()
from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import preset
from megavit.engine.int8 import calibrate
from megavit.engine.openvino_runtime import get_signal_stack
from megavit.model.vit import MegaVit
model = MegaVit.from_config(preset("nano", num_classes=3)).eval()
before = get_signal_stack()
calibrate(model, Preprocessing(height=32, width=32, channels=3), [torch.zeros(2, 3, 32, 32, dtype=torch.uint8)] * 2)
assert get_signal_stack() == before, "measuring has put another stack back"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux alone it is known")
def test_measuring_bounds_leaves_no_stack_behind() -> None:
    done = subprocess.run([sys.executable, "-c", CALIBRATION], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
