"""Export to a single ONNX file."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch

from megavit.config.export_info import METADATA, ExportPrecision, InputKind
from megavit.errors import ConfigError, OutputError
from megavit.exporting.module import ExportModule, example_input, output_names
from megavit.predict.predictor import Predictor

OPSET = 20  # from 2023, for older runtimes; the attention operation of later ones is not faster
MAX_FILE_BYTES = 2**31 - 1


def write_onnx(predictor: Predictor, path: Path, input: InputKind, precision: ExportPrecision, metadata: str) -> None:
    """Write `ExportModule`, with `metadata`, to an ONNX file; raise a ConfigError if it exceeds ONNX's limit of 2 GiB.

    "float16" computes the backbone in 16 bits; "int8" quantizes weights, and activations dynamically.
    """
    import onnx

    module = ExportModule(predictor, input, torch.float16 if precision == "float16" else torch.float32)
    size = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
    if size > MAX_FILE_BYTES:
        raise ConfigError(
            f"the weights take {size / 2**30:.1f} GiB, but ONNX files are limited to 2 GiB: export to openvino or torch"
        )
    with suppress_output():
        program = torch.onnx.export(
            module,
            (example_input(predictor, input),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[input],
            output_names=list(output_names(predictor)),
            dynamic_shapes=(dynamic_sizes(input),),
            verbose=False,
        )
    if program is None:
        raise OutputError("PyTorch could not convert this model to ONNX")
    program.save(path, external_data=False)
    if precision == "int8":
        _quantize(path)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA: metadata})
    onnx.save(model, path)


def dynamic_sizes(input: InputKind) -> dict[int, torch.export.Dim]:
    """Return the axes of the input that may have any size."""
    axes = ("batch", "height", "width") if input == "pixels" else ("batch",)
    return {axis: torch.export.Dim(name, min=1) for axis, name in enumerate(axes)}


def _quantize(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with suppress_output():
        quantize_dynamic(
            path, path, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"]
        )


@contextmanager
def suppress_output() -> Iterator[None]:
    """Suppress the prints, warnings and log messages of exporters."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
