"""Write the report of a data check: check.csv with all findings, and check.html with images."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image
from torch import Tensor

from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import resize
from megavit.data.load import DataSource, check_outside_data
from megavit.data_check.check import CheckResult
from megavit.data_check.finding import KINDS, Finding, Kind, KindInfo, format_target
from megavit.errors import DataError, OutputError
from megavit.evaluation.report.html import render_page
from megavit.page.inline import data_uri
from megavit.runtime.csv_files import csv_text
from megavit.runtime.storage import check_writable, write_file, writing

TABLE, PAGE = "check.csv", "check.html"
COLUMNS = ("kind", "severity", "image", "other_image", "label", "suggested_label", "score", "message")

MAX_FINDINGS = 24
"""Maximum number of findings of each kind on the page."""
MAX_IMAGES = 4
"""Maximum number of images of each finding on the page."""
SIDE = 176
"""Longer side of an image on the page in pixels."""
SMALL_SIDE = 64


def check_output_folder(out: Path, source: DataSource) -> None:
    """Raise an OutputError unless the folder is empty or new, writable and outside the data."""
    with writing("the check", out):
        if out.is_dir() and any(out.iterdir()):
            raise OutputError(f"{out} is not empty; choose a new folder with --out")
        check_outside_data(out, source)
    check_writable(out, "the check", need=0)


def write_report(out: Path, result: CheckResult) -> None:
    """Write the table and the page into `out`.

    Raises:
        OutputError: if they cannot be written.
    """
    with writing("the check", out):
        out.mkdir(parents=True, exist_ok=True)
        write_file(out / TABLE, render_csv(result))
        write_file(out / PAGE, render_html(result))


def render_csv(result: CheckResult) -> bytes:
    """Return the table in UTF-8; names that are not valid text are written as their original bytes.

    A group of duplicates has a row for each image except the first, which is their `other_image`. Findings about whole
    classes, and those of severity "info", are left out.
    """
    return csv_text(COLUMNS, _csv_rows(result))


def _csv_rows(result: CheckResult) -> Iterator[tuple[str, ...]]:
    labels = {sample.name: format_target(sample, result.images.classes) for sample in result.images.samples}
    for finding in result.findings:
        if finding.severity == "info":
            continue
        several = len(finding.images) > 1
        for name in finding.images[1:] if several else finding.images:
            other = finding.images[0] if several else ""
            score = "" if finding.score is None else f"{finding.score:.4f}"
            label = labels.get(name, "")
            yield finding.kind, finding.severity, name, other, label, finding.suggested_label, score, finding.message


@dataclass(frozen=True)
class ImageCard:
    """An image on the page; `uri` is empty if it cannot be shown, and `split` if there is only one split."""

    name: str
    uri: str = ""
    is_small: bool = False
    label: str = ""
    split: str = ""


@dataclass(frozen=True)
class FindingCard:
    """A finding on the page, with the number of its images that are not shown."""

    finding: Finding
    images: list[ImageCard]
    hidden: int


@dataclass(frozen=True)
class Section:
    """The findings of one kind, with the number of those that are not shown."""

    kind: Kind
    info: KindInfo
    count: int
    cards: list[FindingCard]
    hidden: int


def render_html(result: CheckResult) -> bytes:
    """Return the page in UTF-8."""
    images = result.images
    return render_page(
        "check.html.j2",
        "megavit.data_check",
        title=f"Check of {images.source}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        data=images,
        sizes={split: count for split, count in images.split_sizes().items() if count},
        shapes=result.shapes,
        review=result.label_review,
        skip_reason=result.skip_reason,
        sections=_make_sections(result),
        serious=sum(finding.severity == "serious" for finding in result.findings),
        total=len(result.findings),
    )


def _make_sections(result: CheckResult) -> list[Section]:
    by_kind: dict[Kind, list[Finding]] = defaultdict(list)
    for finding in result.findings:
        by_kind[finding.kind].append(finding)
    samples = {sample.name: sample for sample in result.images.samples}
    has_splits = sum(map(bool, result.images.split_sizes().values())) > 1

    def make_card(finding: Finding) -> FindingCard:
        cards = [
            _make_image_card(result.images, name, samples.get(name), has_splits) for name in finding.images[:MAX_IMAGES]
        ]
        return FindingCard(finding, cards, max(0, len(finding.images) - MAX_IMAGES))

    return [
        Section(
            kind,
            KINDS[kind],
            len(findings),
            [make_card(finding) for finding in findings[:MAX_FINDINGS]],
            max(0, len(findings) - MAX_FINDINGS),
        )
        for kind, findings in by_kind.items()
    ]


def _make_image_card(images: LabeledImages, name: str, sample: Sample | None, has_splits: bool) -> ImageCard:
    if sample is None:
        return ImageCard(name)
    label, split = format_target(sample, images.classes), sample.split if has_splits else ""
    try:
        pixels = images.load_pixels(sample, (SIDE, SIDE))
    except DataError:  # deleted or changed since it was checked
        return ImageCard(name, label=label, split=split)
    is_small = max(pixels.shape[1:]) <= SMALL_SIDE
    return ImageCard(name, encode_image(pixels, is_small), is_small, label, split)


def encode_image(pixels: Tensor, is_small: bool) -> str:
    """Return uint8 pixels (C, H, W), downscaled to `SIDE`, as a data URI; small images are stored without loss."""
    pixels = pixels[:3] if pixels.shape[0] >= 3 else pixels[:1]
    scale = min(1.0, SIDE / max(pixels.shape[1:]))
    pixels = resize(pixels, max(2, round(pixels.shape[1] * scale)), max(2, round(pixels.shape[2] * scale)))
    image = Image.fromarray((pixels[0] if pixels.shape[0] == 1 else pixels.permute(1, 2, 0)).contiguous().numpy())
    return data_uri(image, "PNG" if is_small else "JPEG")
