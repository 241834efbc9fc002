"""The fastest way to run a trained model on this machine: PyTorch, or the model as an OpenVINO graph."""

import sys

# Importing OpenVINO sends telemetry and leaves files in the user's home; without this module it does neither, and
# works the same.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] - None says there is no such module
