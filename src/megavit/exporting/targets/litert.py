"""Export to LiteRT, formerly TensorFlow Lite, for phones and small devices, one preprocessed image at a time."""

import io
from contextlib import redirect_stderr
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from megavit.config.export_info import IMAGES, ExportPrecision
from megavit.errors import ConfigError
from megavit.exporting.module import example_input, image_module, output_names
from megavit.exporting.targets.onnx import suppress_output
from megavit.predict.predictor import Predictor
from megavit.predict.runtimes import Run


def write_litert(predictor: Predictor, folder: Path, precision: ExportPrecision, metadata: str) -> None:
    """Write model.tflite, and `metadata` as model.json, to `folder`.

    In "float16" the weights are rounded to 16 bits; in "int8" the weights are rounded by channel, and the inputs of the
    layers while the model runs.

    Raises:
        ConfigError: if LiteRT cannot convert the model.
    """
    path = folder / "model.tflite"
    with suppress_output(), redirect_stderr(io.StringIO()):  # where the quantizer draws its progress
        example = (example_input(predictor, IMAGES)[:1],)
        module = image_module(predictor)
        try:
            import_module("litert_torch").convert(module, example).export(str(path))
        except (NotImplementedError, RuntimeError, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ConfigError(f"LiteRT cannot convert this model ({reason}): export it to onnx") from None
        if precision != "float32":
            quantizer: Any = import_module("ai_edge_quantizer.quantizer").Quantizer(str(path))
            if precision == "int8":
                quantizer.load_quantization_recipe(import_module("ai_edge_quantizer.recipe").dynamic_wi8_afp32())
            else:
                types: Any = import_module("ai_edge_quantizer.qtyping")
                weights = types.TensorQuantizationConfig(num_bits=16, dtype=types.TensorDataType.FLOAT)
                quantizer.update_quantization_recipe(
                    regex=".*",
                    operation_name=types.TFLOperationName.ALL_SUPPORTED,
                    op_config=types.OpQuantizationConfig(
                        weight_tensor_config=weights,
                        compute_precision=types.ComputePrecision.FLOAT,
                        explicit_dequantize=True,
                    ),
                    algorithm_key="float_casting",
                )
            path.write_bytes(quantizer.quantize().quantized_model)
    (folder / "model.json").write_text(metadata)


def open_litert(folder: Path, predictor: Predictor) -> Run:
    """Return a function that runs the model for one image at a time."""
    with suppress_output():
        interpreter: Any = import_module("ai_edge_litert.interpreter").Interpreter(
            str(folder / "model.tflite"), num_threads=torch.get_num_threads()
        )
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner()
    names = output_names(predictor)

    def run(inputs: np.ndarray) -> dict[str, np.ndarray]:
        outputs = runner(args_0=inputs)
        return {name: outputs[f"output_{index}"].copy() for index, name in enumerate(names)}

    return run
