"""What the reports of training and of evaluation share: one HTML file that opens anywhere and asks nothing."""

import os
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from PIL import Image

from megavit.errors import OutputError
from megavit.evaluate.metrics.bootstrap import Interval
from megavit.evaluate.metrics.classification import MAX_NAMED_CLASSES, ClassificationMetrics
from megavit.evaluate.metrics.dispatch import Metrics
from megavit.evaluate.metrics.multilabel import MultilabelMetrics
from megavit.evaluate.metrics.regression import RegressionMetrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_THUMBNAIL = 224
"""Pixels of an example's longer side: sharp on a phone, and the file stays small."""


def environment(*packages: str) -> Environment:
    """Finds templates in these packages, then in this one, whose `page.html.j2` is the frame of every page.

    Whatever a template is given is escaped, and a name that it is not given is an error.
    """
    found = Environment(
        loader=ChoiceLoader([PackageLoader(package, ".") for package in (*packages, "megavit.evaluate.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "percent": percent,
        "span": span,
        "plain": plain,
        "plain_span": plain_span,
        "images": images,
        "thumbnail": thumbnail,
    }
    return found


def result_context(test: Metrics) -> dict[str, Any]:
    """What the shared templates say of the metrics; `target` chooses among them."""
    match test:
        case ClassificationMetrics():
            return {
                "target": "classification",
                "test": test,
                "commonest": max(test.per_class, key=lambda one: one.images),
                "per_class": sorted(test.per_class, key=lambda one: one.recall.value if one.recall else 2),
                "named": len(test.classes) <= MAX_NAMED_CLASSES,
            }
        case MultilabelMetrics():
            return {
                "target": "multilabel",
                "test": test,
                "per_label": sorted(
                    test.per_label, key=lambda one: one.average_precision.value if one.average_precision else 2
                ),
            }
        case RegressionMetrics():
            return {"target": "regression", "test": test}


def percent(share: float) -> str:
    """A share in [0, 1] as "98.6%", with as many digits as it takes not to say 0% or 100% unless it is."""
    if share in (0, 1):
        return f"{share:.0%}"
    texts = (f"{share:.{digits}%}" for digits in range(1, 7))
    return next((text for text in texts if float(text[:-1]) not in (0, 100)), f"{share:.1%}")


def span(interval: Interval) -> str:
    """Of shares."""
    return f"{percent(interval.low)} to {percent(interval.high)}"


def plain(value: float) -> str:
    """Four digits."""
    return f"{value:.4g}"


def plain_span(interval: Interval) -> str:
    """Of scores."""
    return f"{plain(interval.low)} to {plain(interval.high)}"


def images(count: int, kind: str = "") -> str:
    """ "1 image", "2,000 test images"."""
    return f"{count:,} {kind + ' ' if kind else ''}image{'' if count == 1 else 's'}"


def thumbnail(image: "NDArray[np.uint8]") -> str:
    """uint8 (H, W) or (H, W, 3), made small, as a `data_uri`."""
    picture = Image.fromarray(image)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return data_uri(buffer.getvalue())


def data_uri(picture: bytes) -> str:
    """A PNG file within the page."""
    return f"data:image/png;base64,{b64encode(picture).decode('ascii')}"


def write_page(path: Path, content: bytes) -> Path:
    """Write the page, or a picture of it: a reader sees the old file or the new one, never half of one.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"expected to write the report to {path}, but: {error.strerror or error}; "
            "choose a folder that can be written and has space"
        ) from error
    return path
