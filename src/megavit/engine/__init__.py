"""Run a trained model with the faster of PyTorch and OpenVINO."""

import sys

# Without this module, importing OpenVINO sends no telemetry and leaves no files in the user's home.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] - None says there is no such module
