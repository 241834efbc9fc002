"""Nothing leaves the machine, and nothing is left in the user's home."""

import os
import subprocess
import sys
from pathlib import Path


def test_openvino_reports_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('the network was asked for')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import megavit.engine.openvino\n"
        "import openvino\n"
        "openvino.convert_model\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry.')]\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
