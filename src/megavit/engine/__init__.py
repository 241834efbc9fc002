"""Answers as fast as this machine gives them: a trained model as a graph of another runtime, and when to use it."""

import sys

# Importing OpenVINO sends word of it to its maker, unasked, and leaves files in the user's home; without this module
# it does neither, and works the same.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] - None says there is no such module
