"""Open the file of an exported model with ONNX Runtime or OpenVINO, and run it."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from megavit.config.export_info import METADATA
from megavit.engine.openvino_runtime import compile_for_cpu, never_free, preserve_signal_stack, thread_settings
from megavit.runtime.processors import available_cpus

if TYPE_CHECKING:
    import openvino as ov

Run = Callable[[np.ndarray], dict[str, np.ndarray]]  # from a model's input to its outputs by name

OPENVINO_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
"""By default OpenVINO computes in 16 bits where the processor supports it."""


def open_onnx(path: Path) -> tuple[Run, str]:
    """Return the run function and the metadata of an ONNX file; ONNX Runtime may raise anything for a damaged one."""
    session = _OnnxSession(path)
    return session, session.metadata


def open_openvino(path: Path) -> tuple[Run, str]:
    """Return the run function and the metadata of an OpenVINO file; OpenVINO may raise anything for a damaged one."""
    import openvino as ov

    with preserve_signal_stack():
        model = ov.Core().read_model(path)
        metadata = model.get_rt_info(METADATA).astype(str) if model.has_rt_info(METADATA) else ""
        settings = OPENVINO_SETTINGS | thread_settings(available_cpus())
        return CompiledGraph(compile_for_cpu(model, settings)), metadata


class CompiledGraph:
    """A compiled OpenVINO graph that preserves the thread's alternate signal stack when it runs and is freed.

    `memory` is what the graph's weights are in, if it does not own them.
    """

    def __init__(self, compiled: "ov.CompiledModel", memory: Any = None) -> None:
        self._preserve, self._process = preserve_signal_stack, os.getpid()
        self._compiled, self._memory = compiled, memory
        self._names = [output.any_name for output in compiled.outputs]
        self._thread_local = threading.local()

    def __call__(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        with self._preserve():
            if not hasattr(self._thread_local, "request"):
                self._thread_local.request = self._compiled.create_infer_request()
            self._thread_local.request.infer([inputs])
            outputs = [self._thread_local.request.get_output_tensor(index).data for index in range(len(self._names))]
            # Copied, because this thread's next call overwrites the outputs.
            return {name: np.array(values) for name, values in zip(self._names, outputs, strict=True)}

    def __del__(self) -> None:
        if self.__dict__.get("_process") != os.getpid():
            never_free(self.__dict__)
            return
        preserve = self.__dict__.pop("_preserve", None)
        if preserve is not None:
            with preserve():
                self.__dict__.clear()


class _OnnxSession:
    """An ONNX Runtime session, opened again in a forked process because threads are not forked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()
        self.metadata = self._session.get_modelmeta().custom_metadata_map.get(METADATA, "")

    def __call__(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        if self._process != os.getpid():
            never_free(self._session)
            self._open()
        outputs = self._session.run(self._names, {self._input_name: inputs})
        return {name: np.asarray(values) for name, values in zip(self._names, outputs, strict=True)}

    def __del__(self) -> None:
        if self.__dict__.get("_process") != os.getpid():
            never_free(self.__dict__)

    def _open(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        self._session: Any = onnxruntime.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]
        self._input_name = self._session.get_inputs()[0].name
        self._process = os.getpid()
