"""Export to a PyTorch program, either portable or compiled for this kind of machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from megavit.config.export_info import METADATA, ExportPrecision, InputKind
from megavit.errors import ConfigError
from megavit.exporting.module import ExportModule, example_input, output_names
from megavit.exporting.targets.onnx import dynamic_sizes, suppress_output
from megavit.predict.predictor import Predictor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def write_torch(predictor: Predictor, path: Path, input: InputKind, precision: ExportPrecision, metadata: str) -> None:
    """Write `ExportModule` to a file for `torch.export.load`, with the metadata among its extra files."""
    with suppress_output():
        torch.export.save(_program(predictor, input, precision), path, extra_files={METADATA: metadata})


def write_aotinductor(
    predictor: Predictor, path: Path, input: InputKind, precision: ExportPrecision, metadata: str
) -> None:
    """Write `ExportModule` for `torch._inductor.aoti_load_package`; raise a ConfigError without a C++ compiler."""
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        with suppress_output():
            program = _program(predictor, input, precision)
            settings = {"aot_inductor.metadata": {METADATA: metadata}}
            aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)
    except InvalidCxxCompiler:
        raise ConfigError("aotinductor needs a C++ compiler such as g++, but none was found: install one") from None


def open_torch(path: Path, predictor: Predictor) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return a function that runs the program in a file."""
    return _run(torch.export.load(path).module(), output_names(predictor))


def open_aotinductor(path: Path, predictor: Predictor) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    return _run(torch._inductor.aoti_load_package(str(path)), output_names(predictor))


def _program(predictor: Predictor, input: InputKind, precision: ExportPrecision) -> torch.export.ExportedProgram:
    module = ExportModule(predictor, input, DTYPES[precision]).eval()
    return torch.export.export(module, (example_input(predictor, input),), dynamic_shapes=(dynamic_sizes(input),))


def _run(program: Any, names: tuple[str, ...]) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    def run(inputs: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            outputs = program(torch.from_numpy(inputs))
        return {name: values.numpy() for name, values in zip(names, outputs, strict=True)}

    return run
