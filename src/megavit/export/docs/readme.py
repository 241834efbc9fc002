"""The README beside an exported model."""

from megavit.config.export_info import DISTANCE, EMBEDDING, PIXELS, PROBABILITIES, SCORE, ExportInfo
from megavit.export.parity import TOLERANCES, ParityResult
from megavit.weights.bundle.model_card import resizing

RUNTIMES = {
    "onnx": "`model.onnx`, for ONNX Runtime and whatever else reads ONNX",
    "openvino": "`model.xml` and `model.bin`, for OpenVINO",
    "torch": "`model.pt2`, for `torch.export.load`: PyTorch alone, without megavit",
    "aotinductor": "`model.pt2`, compiled for processors like the one that it was made on, for "
    "`torch._inductor.aoti_load_package`, from Python or C++",
    "executorch": "`model.pte`, for ExecuTorch, one image at a time",
    "web": "`index.html`, a page that answers in the browser: put the folder on any web server, none of which sees an "
    "image",
}
INSIDE = 'inside the file, under the name "megavit"'
CARRIED = {"web": "in `page/model.json`", "executorch": "in `model.json`"}
OUTPUTS = {
    PROBABILITIES: "float32 (batch, {labels}): calibrated, in the order of the labels",
    SCORE: "float32 (batch,): in the unit of the training scores",
    EMBEDDING: "float32 (batch, dim): what the model sees, for search and clustering",
    DISTANCE: "float32 (batch,): above {unlike:.6g}, an image is unlike those that the model learned from, and its "
    "answer means little",
}


def render_readme(
    target: str, info: ExportInfo, names: tuple[str, ...], agreement: ParityResult, source: str, script: bool
) -> str:
    """Its text, Markdown.

    Args:
        script: whether there is one beside the model.
        names: of the outputs.
        source: of the images that it was proved on.
    """
    words = {"labels": len(info.labels), "unlike": info.ood_threshold or 0.0}
    outputs = [f"- `{name}`: {OUTPUTS[name].format(**words)}" for name in names]
    if info.input == PIXELS:
        given = (
            f"`pixels`: uint8 (batch, height, width, {info.channels}), of any size, upright"
            + (", RGB, with transparency put on white" if info.channels == 3 else "")
            + "; resizing and normalizing are done inside"
        )
    else:
        size = info.preprocessing
        given = (
            f"`images`: float32 (batch, {size.channels}, {size.height}, {size.width}): resized {resizing(size)}, "
            f"with antialias ({size.interpolation}); then (value / 255 - mean) / std with mean {size.mean} "
            f"and std {size.std}"
        )
    return "\n".join(
        [
            f"# {info.name}, exported by megavit",
            "",
            f"{RUNTIMES[target]}. Made of the bundle of {info.created}; {info.precision}.",
            "",
            "## Input",
            "",
            f"- {given}.",
            "",
            "## Outputs",
            "",
            *outputs,
            "",
            f"Labels, thresholds and what else is needed are JSON {CARRIED.get(target, INSIDE)}."
            + (" `predict.py` shows how to use all of it." if script else ""),
            "",
            "## ParityImage",
            "",
            f"{describe_parity(agreement, info, source)}",
            "",
        ]
    )


def describe_parity(agreement: ParityResult, info: ExportInfo, source: str) -> str:
    """What was compared and what was found, in a few sentences."""
    text = (
        f"Compared with PyTorch in float32 on {source}"
        + (f" and {agreement.stretched} of them at other sizes" if agreement.stretched else "")
        + f": answers differ by at most {agreement.answers:.2g}, features by {agreement.features:.2g} of the largest; "
        f"{agreement.changed} of {agreement.images:,} get another answer."
    )
    if info.precision in TOLERANCES:
        bound = TOLERANCES[info.precision]
        text += f" More than {bound.answers:g} and {bound.features:g} would not have been written."
    if agreement.change is not None:
        low, high = (f"{end * 100:+.2f}" for end in (agreement.change.low, agreement.change.high))
        text += (
            f" Accuracy {agreement.accuracy:.2%} before and {agreement.exported_accuracy:.2%} after, a change of "
            f"{agreement.change.value * 100:+.2f} points (95%: {low} to {high})."
        )
    return text
