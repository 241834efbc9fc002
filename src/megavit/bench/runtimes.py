"""A peer's PyTorch model in another runtime, as its users would put it there."""

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


def in_openvino(model: nn.Module, images: Tensor, precision: str, int8: bool = False) -> Run:
    """Converted by OpenVINO's own means; with `int8` quantized by NNCF for transformers, calibrated on `images`."""
    import openvino as ov

    with torch.no_grad(), _quiet():
        graph = ov.convert_model(model, example_input=images[:1])
        graph.reshape(list(images.shape))  # a fixed size is what it computes fastest
    if int8:
        import nncf  # pyrefly: ignore[missing-import] - only where a user has it

        graph.reshape([1, *images.shape[1:]])
        with _quiet():
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


def in_onnxruntime(model: nn.Module, images: Tensor, int8: bool = False) -> Run:
    """Exported by PyTorch with any batch size; with `int8` quantized dynamically by ONNX Runtime. float32."""
    import onnxruntime

    with _quiet(), TemporaryDirectory() as folder:
        program = torch.onnx.export(
            model, (images,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), verbose=False
        )
        assert program is not None
        written = Path(folder, "model.onnx")
        program.save(str(written))
        exported = written.read_bytes()
    if int8:
        exported = _quantized(exported)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in session.get_inputs())
    return lambda x: session.run(None, {name: np.ascontiguousarray(x.numpy())})[0]


def _quantized(exported: bytes) -> bytes:
    from onnxruntime.quantization import quantize_dynamic

    with TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(exported)
        quantize_dynamic(source, target)
        return target.read_bytes()


@contextmanager
def _quiet() -> Iterator[None]:
    """Converters warn about what they trace, and talk; none of it changes the answer that is timed."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
