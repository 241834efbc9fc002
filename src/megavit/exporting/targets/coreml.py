"""Export to Core ML, for Apple's devices: an ML program for one prepared image at a time."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from megavit.config.export_info import IMAGES, METADATA, ExportPrecision
from megavit.errors import ConfigError, ExportError
from megavit.exporting.module import example_input, image_module, output_names, run_eagerly
from megavit.exporting.targets.onnx import suppress_output
from megavit.predict.predictor import Predictor


def write_coreml(predictor: Predictor, path: Path, precision: ExportPrecision, metadata: str) -> None:
    """Write an ML program with `metadata` to the package `path`, and check its inputs and outputs.

    Raises:
        ConfigError: if Core ML lacks an operation of the model.
        ExportError: if the inputs or outputs are not those of the model; only outputs' values need a Mac to check.
    """
    names, example = output_names(predictor), example_input(predictor, IMAGES)[:1]
    try:
        with suppress_output():
            tools: Any = import_module("coremltools")
            program = torch.export.export(image_module(predictor), (example,)).run_decompositions({})
            converted = tools.convert(
                program,
                inputs=[tools.TensorType(name=IMAGES, shape=example.shape)],
                outputs=[tools.TensorType(name=name) for name in names],
                compute_precision=tools.precision.FLOAT16 if precision == "float16" else tools.precision.FLOAT32,
                minimum_deployment_target=tools.target.iOS16,
                skip_model_load=True,
            )
    except NotImplementedError as error:
        raise ConfigError(f"Core ML lacks an operation of this model ({error}): export it to onnx") from None
    converted.user_defined_metadata[METADATA] = metadata
    converted.save(str(path))
    check_interface(tools.models.MLModel(str(path), skip_model_load=True).get_spec(), names, tuple(example.shape))


def check_interface(spec: Any, names: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """Raise an ExportError unless a model's description has the input "images" of `shape` and the outputs `names`."""
    inputs = {one.name: tuple(one.type.multiArrayType.shape) for one in spec.description.input}
    outputs = tuple(one.name for one in spec.description.output)
    if inputs != {IMAGES: shape} or outputs != names:
        raise ExportError(
            f"the Core ML model has the inputs {inputs} and the outputs {outputs}, not {IMAGES} of {shape} "
            f"and {names}; nothing was written"
        )


def open_coreml(path: Path, predictor: Predictor) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return a function that runs the program for one image at a time, or without Core ML what it is converted from."""
    if sys.platform != "darwin":
        return run_eagerly(image_module(predictor), output_names(predictor))
    tools: Any = import_module("coremltools")
    model = tools.models.MLModel(str(path), compute_units=tools.ComputeUnit.CPU_ONLY)

    def run(inputs: np.ndarray) -> dict[str, np.ndarray]:
        outputs = model.predict({IMAGES: inputs})
        return {name: np.asarray(outputs[name]) for name in output_names(predictor)}

    return run
