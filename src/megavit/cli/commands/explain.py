"""The command `megavit explain`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from megavit.cli.options import Bundle, Device, Json, KeepAspect
from megavit.errors import ConfigError, ImageError
from megavit.explain.methods import DEFAULT_METHOD, Method


def explain(
    bundle: Bundle,
    images: Annotated[list[str], Parameter(allow_leading_hyphen=True)],
    /,
    *,
    out: Path,
    label: str | None = None,
    method: Method = DEFAULT_METHOD,
    device: Device = "auto",
    keep_aspect: KeepAspect = False,
    json: Json = False,
) -> int:
    """Explain predictions with heat maps: which parts of an image they are based on.

    Prints the prediction, where the heat map is highest, and the share of the
    relevance in the most relevant tenth of the patches. A heat map shows what
    the prediction is based on, not whether it is right. No file is
    overwritten. An image that cannot be read is reported with the reason and
    does not stop the others; the exit code is then 2.

    Args:
        images: Image files, folders, glob patterns, or - for standard input.
        out: Folder for the heat maps, one NAME.explained.png per image.
        label: Class to explain. Default: the predicted one.
        method: Attribution method; rollout is the same for every class.
    """
    from megavit.cli.console import notes, print_json, results
    from megavit.cli.shard_inference import check_images, report_failures
    from megavit.cli.writers.explanations import HeatMapFolder, describe
    from megavit.cli.writers.predictions import print_unreadable
    from megavit.config.names import printable
    from megavit.explain.explanation import explain_image, output_index
    from megavit.predict.input_sources import iter_images
    from megavit.predict.predictor import load
    from megavit.runtime.storage import check_writable

    check_images(images, "explain")
    predictor = load(bundle, device=device, keep_aspect=keep_aspect)
    output_index(predictor, label)  # fails early for a wrong label
    check_writable(out, "the heat maps", need=0)
    folder = HeatMapFolder(out)
    failed = total = 0
    for name, image in iter_images(images, sys.stdin.buffer):
        if folder.has_written(image):
            continue
        total += 1
        try:
            explanation = explain_image(predictor, image, label, method)
        except ImageError as error:
            failed += 1
            if json:
                print_json({"path": name, "error": error.reason})
            else:
                print_unreadable(name, error.reason)
            continue
        path = folder.save(explanation, name)
        if json:
            print_json({"path": name, **explanation.to_dict(), "heat_map_file": str(path)})
        else:
            results.print(f"{printable(name)}  {describe(explanation)}")
    if not total:
        raise ConfigError(f"there are no images in {', '.join(images)}")
    notes.print(f"{total - failed:,} heat maps in {out}")
    return report_failures(failed, total)
