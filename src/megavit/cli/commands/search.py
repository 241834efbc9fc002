"""The command `megavit search`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from megavit.cli.options import Bundle, Device, ImageInputs, Json, RunData
from megavit.errors import ConfigError

if TYPE_CHECKING:
    from megavit.search.search import SearchResult

MAX_REPORTED = 50
"""Number of images whose matches the page shows."""


def search(
    bundle: Bundle,
    images: ImageInputs,
    /,
    *,
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

    check_images(images, "search")
    if report is not None:
        check_new_file(report, "reports", (".html",))
    found = index_images(bundle, among, data=data, index=index, device=device, reporter="terminal")
    notes.print(f"searching in {len(found.index.images):,} images")
    total = failed = 0
    shown: list[SearchResult] = []
    for result in found.stream(iter_images(images, sys.stdin.buffer), top):
        total += 1
        failed += result.error is not None
        if len(shown) < MAX_REPORTED:
            shown.append(result)
        if json:
            print_json(result.to_dict())
        else:
            show_matches(result)
    if not total:
        raise ConfigError(f"there are no images in {', '.join(images)}")
    if report is not None:
        notes.print(f"report: {found.write_report(report, shown)}")
    return report_failures(failed, total)
