"""Run a peer's PyTorch model in another runtime, converted as its users would."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

Run = Callable[[Tensor], object]


def to_openvino(model: nn.Module, images: Tensor, precision: str, int8: bool = False) -> Run:
    """Convert with OpenVINO; with `int8`, also quantize with NNCF for transformers, calibrated on `images`."""
    import openvino as ov

    with torch.no_grad(), _suppress_output():
        graph = ov.convert_model(model, example_input=images[:1])
        graph.reshape(list(images.shape))  # a fixed size is fastest
    if int8:
        import nncf  # pyrefly: ignore[missing-import] - only where a user has it

        graph.reshape([1, *images.shape[1:]])
        with _suppress_output():
            samples = nncf.Dataset([images[i : i + 1].numpy() for i in range(len(images))])
            graph = nncf.quantize(graph, samples, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(images))
        graph.reshape(list(images.shape))
    settings = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = ov.Core().compile_model(graph, "CPU", settings).create_infer_request()
    return lambda x: request.infer(x.numpy(), share_inputs=True, share_outputs=True)[0]


def to_onnxruntime(model: nn.Module, images: Tensor, int8: bool = False) -> Run:
    """Export with PyTorch in float32 for any batch size; with `int8`, also quantize dynamically with ONNX Runtime."""
    import onnxruntime

    with _suppress_output(), TemporaryDirectory() as folder:
        program = torch.onnx.export(
            model, (images,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), verbose=False
        )
        assert program is not None
        path = Path(folder, "model.onnx")
        program.save(str(path))
        exported = path.read_bytes()
    if int8:
        exported = _quantize(exported)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    (name,) = (argument.name for argument in session.get_inputs())
    return lambda x: session.run(None, {name: np.ascontiguousarray(x.numpy())})[0]


def _quantize(exported: bytes) -> bytes:
    from onnxruntime.quantization import quantize_dynamic

    with TemporaryDirectory() as folder, _suppress_output():
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(exported)
        quantize_dynamic(source, target)
        return target.read_bytes()


@contextmanager
def _suppress_output() -> Iterator[None]:
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
