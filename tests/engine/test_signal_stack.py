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
from megavit.engine.int8 import calibrate
from megavit.engine.openvino import OpenVino
from megavit.engine.openvino_runtime import get_signal_stack
from megavit.model.vit import MegaVit
model = MegaVit.from_config(preset("nano", num_classes=3)).eval()
images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
preprocessing = Preprocessing(height=32, width=32, channels=3)
before = get_signal_stack()
for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
    graphs = [OpenVino(model, preprocessing, "float32") for _ in range(3)]
    for graph in graphs:
        graph(images)
        assert get_signal_stack() == before, "a graph has left its stack behind"
    del graph
    for index in order:
        graphs[index] = None
        assert get_signal_stack() == before, "a graph that ends has restored another stack"
calibrate(model, preprocessing, [images] * 2)
assert get_signal_stack() == before, "calibration has restored another stack"
signal.signal(signal.SIGCHLD, lambda *_: None)
subprocess.run(["true"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sigaltstack is known to be changed on Linux alone")
def test_signals_are_handled_after_graphs_ended_in_any_order_and_after_calibration() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
