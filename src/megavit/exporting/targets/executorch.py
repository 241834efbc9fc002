"""Export to ExecuTorch, for phones and small devices, one image at a time."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from megavit.config.export_info import IMAGES, PIXELS, ExportPrecision, InputKind
from megavit.config.preprocessing import Preprocessing
from megavit.errors import ExportError
from megavit.exporting.formats import EXECUTORCH_MAX_SIDE
from megavit.exporting.module import ExportModule, example_input, output_names, preprocess_pixels
from megavit.exporting.targets.onnx import suppress_output
from megavit.predict.predictor import Predictor


class PixelModule(nn.Module):
    """A module for preprocessed images, with the preprocessing of pixels before it.

    Quantizing both would turn the integers that images are resized by into floats.
    """

    def __init__(self, module: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.module = module
        self.preprocessing = preprocessing

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return self.module(preprocess_pixels(pixels, self.preprocessing))


def write_executorch(
    predictor: Predictor, folder: Path, input: InputKind, precision: ExportPrecision, metadata: str
) -> None:
    """Write model.pte, lowered to the CPU by XNNPACK, and `metadata` as model.json to `folder`.

    In "int8" the weights of the linear layers are rounded by channel, and their inputs while the model runs.
    """
    with suppress_output():
        # XNNPACK takes only convolutions whose kernel is a constant; others run far more slowly.
        fold = import_module("executorch.exir.passes.constant_prop_pass").constant_prop_pass
        example = (example_input(predictor, IMAGES)[:1],)
        module = fold(torch.export.export(ExportModule(predictor, IMAGES).eval(), example)).module()
        if precision == "int8":
            module = _quantize(module, example)
        sizes = None
        if input == PIXELS:
            module = PixelModule(module, predictor.info.preprocessing)
            sizes = ({1: Dim("height", max=EXECUTORCH_MAX_SIDE), 2: Dim("width", max=EXECUTORCH_MAX_SIDE)},)
        program = torch.export.export(module, (example_input(predictor, input)[:1],), dynamic_shapes=sizes)
        xnnpack = import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
        lower = import_module("executorch.exir").to_edge_transform_and_lower
        lowered = lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
        buffer = lowered.to_executorch().buffer
    (folder / "model.pte").write_bytes(buffer)
    (folder / "model.json").write_text(metadata)


def _quantize(module: nn.Module, example: tuple[Tensor]) -> nn.Module:
    quantizers = import_module("executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
    pt2e = import_module("torchao.quantization.pt2e.quantize_pt2e")
    config = quantizers.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    # Convolutions stay in float32: quantized ones are written in a layout that the runtime refuses.
    quantizer = quantizers.XNNPACKQuantizer().set_operator_type(torch.ops.aten.linear.default, config)
    prepared = pt2e.prepare_pt2e(module, quantizer)
    prepared(*example)
    return pt2e.convert_pt2e(prepared)


def open_executorch(folder: Path, predictor: Predictor) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return a function that runs the program for one image at a time."""
    with suppress_output():
        runtime = import_module("executorch.runtime").Runtime.get()
    program = runtime.load_program(folder / "model.pte")
    names = output_names(predictor)

    def run(inputs: np.ndarray) -> dict[str, np.ndarray]:
        method = program.load_method("forward")  # loaded once; it reads the program's memory, but does not keep it
        try:
            outputs = method.execute([torch.from_numpy(inputs)])
        except RuntimeError as error:
            raise ExportError(
                f"ExecuTorch writes this model but cannot run it ({error}): export it to onnx; nothing was written"
            ) from None
        return {name: values.numpy().copy() for name, values in zip(names, outputs, strict=True)}

    return run
