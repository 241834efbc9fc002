"""`megavit explain`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from megavit.cli.options import Bundle, Device, Json, KeepAspect
from megavit.errors import ConfigError, ImageError
from megavit.explain.methods import DEFAULT_METHOD, Method


def explain(
    bundle: Bundle,
    images: Annotated[
        list[str],
        Parameter(help="Image files, folders, glob patterns, or - for standard input.", allow_leading_hyphen=True),
    ],
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder for the heat maps, one NAME.explained.png per image.")],
    label: Annotated[str | None, Parameter(help="Class to explain. Default: the predicted one.")] = None,
    method: Annotated[
        Method, Parameter(help="Attribution method; rollout is the same for every class.")
    ] = DEFAULT_METHOD,
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
    """
    from megavit.cli.console import notes, print_json, printable, results
    from megavit.cli.shard_inference import check_images
    from megavit.cli.writers.explanations import ExplainedFolder, told
    from megavit.explain.explanation import explain_image, output_index
    from megavit.predict.input_sources import iter_images
    from megavit.predict.predictor import load
    from megavit.runtime.storage import check_writable

    check_images(images, "explain")
    predictor = load(bundle, device=device, keep_aspect=keep_aspect)
    output_index(predictor, label)  # so that a wrong label costs no work
    check_writable(out, "the explained images", need=0)
    folder = ExplainedFolder(out)
    failed = total = 0
    for name, image in iter_images(images, sys.stdin.buffer):
        if folder.wrote(image):
            continue
        total += 1
        try:
            explanation = explain_image(predictor, image, label, method)
        except ImageError as error:
            failed += 1
            if json:
                print_json({"path": name, "error": error.reason})
            else:
                results.print(f"{printable(name)}  cannot be read: {printable(error.reason)}", style="yellow")
            continue
        path = folder.save(explanation, name)
        if json:
            print_json({"path": name, **explanation.to_dict(), "explained": str(path)})
        else:
            results.print(f"{printable(name)}  {told(explanation)}")
    if not total:
        raise ConfigError(f"there are no images in {', '.join(images)}")
    notes.print(f"{total - failed:,} explained images in {out}")
    if failed:
        notes.print(f"{failed:,} of {total:,} images could not be read", style="yellow")
    return 2 if failed else 0
