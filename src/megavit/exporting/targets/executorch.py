"""Export to ExecuTorch, for phones and small devices, one prepared image at a time."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from megavit.config.export_info import ExportPrecision
from megavit.errors import ExportError
from megavit.exporting.module import ExportModule, example_input, output_names
from megavit.exporting.targets.onnx import suppress_output
from megavit.predict.predictor import Predictor


def write_executorch(predictor: Predictor, folder: Path, precision: ExportPrecision, metadata: str) -> None:
    """Write model.pte, lowered to the CPU by XNNPACK, and `metadata` as model.json to `folder`.

    In "int8" the weights of the linear layers are rounded by channel, and their inputs while the model runs.
    """
    with suppress_output():
        lower = import_module("executorch.exir").to_edge_transform_and_lower
        xnnpack = import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
        module, example = ExportModule(predictor, "images").eval(), (example_input(predictor, "images")[:1],)
        program = torch.export.export(module, example)
        if precision == "int8":
            program = torch.export.export(_quantize(program.module(), example), example)
        lowered = lower(program, partitioner=[xnnpack.XnnpackPartitioner()]).to_executorch()
    (folder / "model.pte").write_bytes(lowered.buffer)
    (folder / "model.json").write_text(metadata)


def _quantize(module: nn.Module, example: tuple[Tensor]) -> nn.Module:
    quantizers = import_module("executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
    pt2e = import_module("torchao.quantization.pt2e.quantize_pt2e")
    config = quantizers.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    prepared = pt2e.prepare_pt2e(module, quantizers.XNNPACKQuantizer().set_global(config))
    prepared(*example)
    return pt2e.convert_pt2e(prepared)


def open_executorch(folder: Path, predictor: Predictor) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return a function that runs the program for one image at a time."""
    with suppress_output():
        runtime = import_module("executorch.runtime").Runtime.get()
    method = runtime.load_program(folder / "model.pte").load_method("forward")
    names = output_names(predictor)

    def run(inputs: np.ndarray) -> dict[str, np.ndarray]:
        try:
            outputs = method.execute([torch.from_numpy(inputs)])
        except RuntimeError as error:
            raise ExportError(
                f"ExecuTorch writes this model but cannot run it ({error}): export it to onnx; nothing was written"
            ) from None
        return {name: values.numpy().copy() for name, values in zip(names, outputs, strict=True)}

    return run
