"""Every export of a bundle: how large, how near PyTorch's answers, how accurate, how fast.

    python -m benchmarks.speed.exports BUNDLE [--images FOLDER] [--seconds 20] [--json FILE]
    python -m benchmarks.speed.exports --page FILE.json...

Each is written and proved as `megavit export` does it, on up to 10,000 test images of the bundle; or on a folder's
images, whose classes are then those that PyTorch finds, so that the accuracy is how often an export says the same. int8
may cost what it does. Then all answer for noise of the model's own size, as uint8 with resizing inside, batches of 1
and 16, in turns; figures are images a second, by the medians of the turns. "PyTorch" is what the exports are compared
with. The second line writes the tables into docs/benchmarks.md.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.pages import page_with
from megavit.bench.run import describe_machine
from megavit.bench.timing import time_interleaved
from megavit.data.decode.image_file import read_image_file
from megavit.exporting.export import RUNTIMES as EXPORT_RUNTIMES
from megavit.exporting.export import export, model_size
from megavit.exporting.formats import EXPORT_TARGETS
from megavit.exporting.metadata import bundle_name
from megavit.exporting.parity_images import ParityImage, load_parity_images
from megavit.exporting.resize import input_channels
from megavit.predict.predictor import Predictor, load
from megavit.runtime.storage import write_file

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- exports: written by `python -m benchmarks.speed.exports --page` -->", "<!-- end of exports -->"
EXCLUDED = ("web", "executorch", "coreml", "tensorrt")  # ONNX in another runtime, or only for preprocessed images
BATCHES = (1, 16)
MAX_IMAGES = 10_000
RUNTIMES = ("torch", "onnxruntime", "openvino")


def folder_images(predictor: Predictor, folder: Path) -> list[ParityImage]:
    """Its images, each with the class that PyTorch finds in it."""
    found = []
    for path in sorted(folder.rglob("*.*")):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            pixels, _ = read_image_file(path)
            output = predictor.engine.run_pytorch(predictor.prepare(pixels)[None])
            found.append(ParityImage(path.name, pixels, int(output.logits.argmax())))
    return found


def measure(bundle: str, images: Path | None, seconds: float) -> dict[str, Any]:
    """A row an export, as plain values."""
    predictor = load(bundle, device="cpu")
    if images is None:
        parity_images, _ = load_parity_images(predictor, None, max_images=MAX_IMAGES)
        source = f"{len(parity_images):,} test images"
    else:
        parity_images = folder_images(predictor, images)
        source = f"{len(parity_images):,} images, whose classes are PyTorch's answers"
    size = predictor.info.preprocessing
    random = np.random.default_rng(0)
    shape = (size.height, size.width, input_channels(size))
    inputs = {count: random.integers(0, 256, (count, *shape), dtype=np.uint8) for count in BATCHES}
    facts: dict[str, dict[str, Any]] = {}
    runs: dict[str, Callable[[np.ndarray], Any]] = {"PyTorch float32": _run_pytorch(predictor)}
    with TemporaryDirectory() as scratch:
        for target, row in EXPORT_TARGETS.items():
            for precision in () if target in EXCLUDED else row.precisions:
                out = Path(scratch) / f"{target}-{precision}"
                sys.stderr.write(f"{target} {precision} …\n")
                result = export(predictor, target, out, parity_images, precision=precision, max_accuracy_drop=100)
                runs[f"{target} {precision}"] = EXPORT_RUNTIMES[target].open(out, predictor)
                facts[f"{target} {precision}"] = {"bytes": model_size(out)} | result.to_dict()
        rates: dict[str, dict[str, float]] = {name: {} for name in runs}
        for count, batch in inputs.items():
            calls = {name: partial(run, batch) for name, run in runs.items()}
            for name, timing in time_interleaved(calls, seconds, torch.device("cpu")).items():
                rates[name][str(count)] = count / timing.median
    parameters = sum(weight.numel() for weight in predictor.model.parameters()) / 1e6
    title = f"{bundle_name(predictor.folder)}: {parameters:.1f} million parameters, {size.height} × {size.width}"
    return describe_machine(torch.device("cpu")) | {
        "bundle": title,
        "images": source,
        "rows": [{"name": name, "rates": found} | facts.get(name, {}) for name, found in rates.items()],
    }


def _run_pytorch(predictor: Predictor) -> Callable[[np.ndarray], Any]:
    def run(pixels: np.ndarray) -> Any:
        return predictor.engine.run_pytorch(torch.stack([predictor.prepare(one) for one in pixels]))

    return run


def table(figures: dict[str, Any]) -> list[str]:
    """A heading, and a row an export."""
    versions = ", ".join(f"{name} {figures['versions'][name]}" for name in RUNTIMES)
    header = ["", "MB", "output error", "feature error", "changed predictions", "accuracy"]
    header += [f"images/s, batch {count}" for count in BATCHES]
    lines = [f"### {figures['bundle']}", "", f"{figures['machine']}; {versions}."]
    lines += [f"Proved on {figures['images']}.", "", f"| {' | '.join(header)} |", f"|---{'|---:' * (len(header) - 1)}|"]
    return lines + [f"| {' | '.join(_cells(row))} |" for row in figures["rows"]]


def _cells(row: dict[str, Any]) -> list[str]:
    rates = [f"{row['rates'][str(count)]:,.0f}" for count in BATCHES]
    if "images" not in row:
        return [row["name"], "", "", "", "", "", *rates]
    return [
        row["name"],
        f"{row['bytes'] / 1e6:.1f}",
        f"{row['output_error']:.1g}",
        f"{row['feature_error']:.1g}",
        f"{row['changed']:,} of {row['images']:,}",
        f"{row['exported_accuracy']:.2%}",
        *rates,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, nargs="+", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.page:
        lines: list[str] = []
        for file in arguments.page:
            lines += [*([""] if lines else []), *table(json.loads(file.read_text(encoding="utf-8")))]
        write_file(PAGE, page_with(PAGE.read_text(encoding="utf-8"), BEGIN, lines, END))
        return
    if arguments.bundle is None:
        parser.error("pass a BUNDLE or --page")
    figures = measure(arguments.bundle, arguments.images, arguments.seconds)
    sys.stdout.write("\n".join(table(figures)) + "\n")
    if arguments.json is not None:
        write_file(arguments.json, json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
