"""The command `megavit search`."""

import sys
from itertools import chain
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from megavit.cli.options import Bundle, Device, ImageInputs, Json, RunData
from megavit.errors import ConfigError

MAX_REPORTED = 50
"""Number of images whose matches the page shows."""


def search(
    bundle: Bundle,
    images: ImageInputs | None = None,
    /,
    *,
    text: str | None = None,
    among: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    data: RunData = None,
    index: Path | None = None,
    top: int = 10,
    report: Path | None = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Find the most similar images, and copies, among those that the bundle was trained and tested on, or others.

    Similarity is the cosine of the embeddings. Each of the images to search
    in is embedded once, which is kept in an index beside the bundle. A near
    copy is the same image saved again, resized, slightly cropped, brightened
    or mirrored. An image that cannot be read does not stop the others; the
    exit code is then 2.

    Args:
        text: Find the images that fit this text, with a CLIP or SigLIP model as BUNDLE: a folder with both towers.
        among: Image files, folders, glob patterns or shards to search in. Default: the bundle's own images.
        index: File of the index. Default: one beside the bundle.
        top: Number of images to find for each.
        report: New .html file with the images found, and the hardest, the strangest and groups of those searched.
    """
    from megavit.api.search import index_images
    from megavit.cli.console import notes, print_json
    from megavit.cli.render.matches import show_matches
    from megavit.cli.shard_inference import check_images, report_failures
    from megavit.cli.writers.line_file import check_new_file
    from megavit.predict.input_sources import iter_images
    from megavit.search.search import SearchResult

    if (text is None) == (images is None):
        raise ConfigError("say what to search by: images, or a text with --text")
    if images is not None:
        check_images(images, "search")
    if report is not None:
        check_new_file(report, "reports", (".html",))
    found = index_images(
        bundle, among, data=data, index=index, by_text=text is not None, device=device, reporter="terminal"
    )
    notes.print(f"searching in {len(found.index.images):,} images")
    total = failed = 0
    shown: list[SearchResult] = []
    by_text = [] if text is None else [SearchResult(text, found.find_text(text, top))]
    by_image = found.stream(iter_images(images or [], sys.stdin.buffer), top)
    for result in chain(by_text, by_image):
        total += 1
        failed += result.error is not None
        if len(shown) < MAX_REPORTED:
            shown.append(result)
        if json:
            print_json(result.to_dict())
        else:
            show_matches(result)
    if not total:
        raise ConfigError(f"there are no images in {', '.join(images or ())}")
    if report is not None:
        notes.print(f"report: {found.write_report(report, shown)}")
    return report_failures(failed, total)
