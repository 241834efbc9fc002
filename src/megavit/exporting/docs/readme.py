"""Create the README of an exported model."""

from megavit.config.export_info import DISTANCE, EMBEDDING, PIXELS, PROBABILITIES, SCORE, ExportInfo
from megavit.exporting.formats import EXPORT_TARGETS, TargetName
from megavit.exporting.parity import TOLERANCES, ParityResult
from megavit.weights.bundle.model_card import describe_resizing

METADATA_IN = {
    "web": "in `page/model.json`",
    "executorch": "in `model.json`",
    "litert": "in `model.json`",
    "coreml": 'among the user-defined metadata, under the name "megavit"',
}
PROFILE = (("min", 1), ("opt", 16), ("max", 64))  # images in a batch of TensorRT
OUTPUTS = {
    PROBABILITIES: "float32 (batch, {labels}): calibrated, in the order of the labels",
    SCORE: "float32 (batch,): in the unit of the training scores",
    EMBEDDING: "float32 (batch, dim): the features, for search and clustering",
    DISTANCE: "float32 (batch,): above {ood_threshold:.6g}, an image is unlike the training images, and its prediction "
    "is not reliable",
}


def render_readme(
    target: TargetName, info: ExportInfo, outputs: tuple[str, ...], parity: str, *, has_script: bool
) -> str:
    """Return the README in Markdown, with the model's output names and the text of `describe_parity`."""
    values = {"labels": len(info.labels), "ood_threshold": info.ood_threshold or 0.0}
    output_lines = "\n".join(f"- `{name}`: {OUTPUTS[name].format(**values)}" for name in outputs)
    if info.input == PIXELS:
        max_side = EXPORT_TARGETS[target].max_side
        inputs = (
            f"`pixels`: uint8 (batch, height, width, {info.channels}), of any size"
            + (f" up to {max_side:,} × {max_side:,}, upright" if max_side else ", upright")
            + (", RGB, with transparency on white" if info.channels == 3 else "")
            + "; resized and normalized inside the model"
        )
    else:
        size = info.preprocessing
        inputs = (
            f"`images`: float32 (batch, {size.channels}, {size.height}, {size.width}): resized "
            f"{describe_resizing(size)}, "
            f"with antialias ({size.interpolation}); then (value / 255 - mean) / std with mean {size.mean} "
            f"and std {size.std}"
        )
    metadata_in = METADATA_IN.get(target, 'inside the file, under the name "megavit"')
    script = " `predict.py` shows how to use all of it." if has_script else ""
    return f"""# {info.name}, exported by megavit

{EXPORT_TARGETS[target].files}. Exported from the bundle of {info.created}; {info.precision}.

## Input

- {inputs}.

{_describe_build(target, info)}## Outputs

{output_lines}

Labels, thresholds and the other metadata are JSON {metadata_in}.{script}

## Verification

{parity}
"""


def _describe_build(target: TargetName, info: ExportInfo) -> str:
    """Return how the engine is built, for a target that needs that, else ""."""
    if target != "tensorrt":
        return ""
    shapes = (f"--{name}Shapes=images:{count}x{info.channels}x{info.height}x{info.width}" for name, count in PROFILE)
    return f"""## Building the engine

With TensorRT 10 or later, on the GPU that will run it, for batches of 1 to 64 images:

```
trtexec --onnx=model.onnx --stronglyTyped --saveEngine=model.engine {" ".join(shapes)}
```

`reference.npz` has inputs (`input`) and the outputs that PyTorch computed in float32 for them.

"""


def describe_parity(result: ParityResult, info: ExportInfo, source: str) -> str:
    """Return a few sentences on what was compared and the result; `source` describes the images."""
    text = f"Not verified here: {info.unverified}. " if info.unverified else ""
    text += (
        f"Compared with PyTorch in float32 on {source}"
        + (f" and {result.stretched} of them at other sizes" if result.stretched else "")
        + f": outputs differ by at most {result.output_error:.2g}, features by {result.feature_error:.2g} of the "
        f"largest; {result.changed} of {result.images:,} get a different prediction"
        + ("" if result.ood_changed is None else f", {result.ood_changed} are unlike the training images in one only")
        + "."
    )
    if info.precision in TOLERANCES:
        tolerance = TOLERANCES[info.precision]
        text += f" At most {tolerance.outputs:g} and {tolerance.features:g} are allowed."
    if result.accuracy_change is not None:
        low, high = (f"{end * 100:+.2f}" for end in (result.accuracy_change.low, result.accuracy_change.high))
        text += (
            f" Accuracy {result.accuracy:.2%} before and {result.exported_accuracy:.2%} after, a change of "
            f"{result.accuracy_change.value * 100:+.2f} points (95%: {low} to {high})."
        )
    return text
