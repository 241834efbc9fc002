"""check.html: what was found with its pictures, in one page that opens anywhere and asks nothing of the network."""

from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from torch import Tensor

from megavit.check.check import CheckResult
from megavit.check.finding import KINDS, Finding, Kind, Meaning, label_of
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import resize
from megavit.errors import DataError

SHOWN = 24
"""Findings of a kind that are shown; the table has all."""
TOGETHER = 4
"""Pictures of a finding."""
SIDE = 176
"""Pixels of a picture's longer side: sharp on a phone, and the page stays small."""
_SMALL = 64


@dataclass(frozen=True)
class Picture:
    """One image on the page; `uri` is empty where it cannot be shown, and `split` where there is only one."""

    name: str
    uri: str
    pixels: bool
    label: str
    split: str


@dataclass(frozen=True)
class Shown:
    """One finding on the page; `hidden` is how many more pictures it has."""

    finding: Finding
    pictures: list[Picture]
    hidden: int


@dataclass(frozen=True)
class Section:
    """A kind with its findings; `hidden` is how many more there are."""

    kind: Kind
    meaning: Meaning
    count: int
    shown: list[Shown]
    hidden: int


def checked_page(checked: CheckResult, left_out: str) -> bytes:
    """The page, in UTF-8, with every text escaped.

    Args:
        left_out: why labels were not judged; "" where they were.
    """
    environment = Environment(
        loader=PackageLoader("megavit.check", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    images = checked.images
    page = environment.get_template("check.html.j2").render(
        images=images,
        sizes={split: count for split, count in images.split_sizes().items() if count},
        shapes=checked.shapes,
        judged=checked.judged,
        left_out=left_out,
        sections=_sections(checked),
        serious=sum(finding.severity == "serious" for finding in checked.findings),
        total=len(checked.findings),
    )
    # File names may hold bytes that are no text; they must not cost the whole page.
    return page.encode("utf-8", errors="replace")


def _sections(checked: CheckResult) -> list[Section]:
    by_kind: dict[Kind, list[Finding]] = defaultdict(list)
    for finding in checked.findings:
        by_kind[finding.kind].append(finding)
    show = partial(
        _picture,
        checked.images,
        {sample.name: sample for sample in checked.images.samples},
        sum(map(bool, checked.images.split_sizes().values())) > 1,
    )
    return [
        Section(
            kind,
            KINDS[kind],
            len(findings),
            [_shown(finding, show) for finding in findings[:SHOWN]],
            max(0, len(findings) - SHOWN),
        )
        for kind, findings in by_kind.items()
    ]


def _shown(finding: Finding, show: Callable[[str], Picture]) -> Shown:
    pictures = [show(name) for name in finding.images[:TOGETHER]]
    return Shown(finding, pictures, max(0, len(finding.images) - TOGETHER))


def _picture(images: LabeledImages, samples: dict[str, Sample], splits: bool, name: str) -> Picture:
    sample = samples.get(name)
    if sample is None:
        return Picture(name, "", False, "", "")
    split = sample.split if splits else ""
    label = label_of(sample, images.classes)
    try:
        pixels = images.load_pixels(sample, (SIDE, SIDE))
    except DataError:  # gone, or another one, since it was checked
        return Picture(name, "", False, label, split)
    small = max(pixels.shape[1:]) <= _SMALL
    return Picture(name, _uri(pixels, small), small, label, split)


def _uri(pixels: Tensor, small: bool) -> str:
    """Small pictures as they are; large ones smaller, and as JPEG."""
    pixels = pixels[:3] if pixels.shape[0] >= 3 else pixels[:1]
    scale = min(1.0, SIDE / max(pixels.shape[1:]))
    pixels = resize(pixels, max(2, round(pixels.shape[1] * scale)), max(2, round(pixels.shape[2] * scale)))
    picture = Image.fromarray((pixels[0] if pixels.shape[0] == 1 else pixels.permute(1, 2, 0)).contiguous().numpy())
    buffer, kind = BytesIO(), "PNG" if small else "JPEG"
    picture.save(buffer, format=kind, optimize=True, quality=85)
    return f"data:image/{kind.lower()};base64,{b64encode(buffer.getvalue()).decode('ascii')}"
