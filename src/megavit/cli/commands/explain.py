"""`megavit explain`."""

import sys
from pathlib import Path
from typing import Annotated, cast, get_args

from cyclopts import Parameter

from megavit.errors import ConfigError, ImageError
from megavit.explain.methods import DEFAULT_METHOD, Method


def explain(
    bundle: Annotated[Path, Parameter(help="Folder that megavit train or convert wrote, or hf-hub:USER/NAME.")],
    images: Annotated[
        list[str], Parameter(help="Files, folders, patterns, or - for standard input.", allow_leading_hyphen=True)
    ],
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder for NAME.explained.png of each image.")],
    label: Annotated[str | None, Parameter(help="Explain this class or label, not the likeliest one.")] = None,
    method: Annotated[
        str, Parameter(help="integrated_gradients, relevance, or rollout (of no label).")
    ] = DEFAULT_METHOD,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    keep_aspect: Annotated[
        bool, Parameter(help="Keep images' aspect, also where training did not.", negative="")
    ] = False,
    json: Annotated[bool, Parameter(help="Print one JSON object a line.", negative="")] = False,
) -> int:
    """Show where in images an answer comes from: each as a picture under a map, bright where it matters.

    Prints the answer, where the map is highest, and how much of it the most
    relevant tenth of the patches holds. A map says where the model looks,
    not whether it is right to. No file is overwritten. An image that cannot
    be read is told with the reason, the others go on, and the exit code is 2.
    """
    from megavit.cli.console import notes, print_json, printable, results
    from megavit.cli.shard_inference import check_images
    from megavit.cli.writers.explanations import ExplainedFolder, told
    from megavit.config.checks import check_choice
    from megavit.explain.explanation import explain_image, output_index
    from megavit.predict.input_sources import images_named
    from megavit.predict.predictor import load
    from megavit.runtime.storage import check_writable

    check_images(images, "explain")
    check_choice("method", method, get_args(Method))
    predictor = load(bundle, device=device, keep_aspect=keep_aspect)
    output_index(predictor, label)  # so that a wrong label costs no work
    check_writable(out, "the explained images", need=0)
    folder = ExplainedFolder(out)
    failed = total = 0
    for name, image in images_named(images, sys.stdin.buffer):
        if folder.wrote(image):
            continue
        total += 1
        try:
            explanation = explain_image(predictor, image, label, cast(Method, method))
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
