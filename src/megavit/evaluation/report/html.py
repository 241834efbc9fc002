"""Render self-contained HTML reports: template environment, filters and atomic writes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from PIL import Image

from megavit.evaluation.metrics.bootstrap import Interval
from megavit.evaluation.metrics.classification import MAX_NAMED_CLASSES, ClassificationMetrics
from megavit.evaluation.metrics.dispatch import Metrics
from megavit.evaluation.metrics.multilabel import MultilabelMetrics
from megavit.evaluation.metrics.regression import RegressionMetrics
from megavit.page.inline import data_uri
from megavit.runtime.storage import write_file, writing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_THUMBNAIL_SIDE = 224
"""Longer side of an example image in pixels."""


def render_page(template: str, package: str = "", **context: Any) -> bytes:
    """Render a template of this package, or of `package`, as UTF-8; all templates extend `page.html.j2`.

    The context is escaped, and undefined names are errors.
    """
    packages = (package, "megavit.evaluation.report") if package else ("megavit.evaluation.report",)
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name, ".") for name in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "percent_range": percent_range,
        "number": number,
        "number_range": number_range,
        "images": count_images,
        "thumbnail": thumbnail,
    }
    # File names may contain bytes that are not text.
    return environment.get_template(template).render(**context).encode("utf-8", errors="replace")


def metrics_context(test: Metrics, *, folds: int = 0) -> dict[str, Any]:
    """Return the context of the shared templates for these metrics; `target` selects the template.

    With `folds`, they are those of a cross-validation.
    """
    return {"folds": folds} | _target_context(test)


def _target_context(test: Metrics) -> dict[str, Any]:
    match test:
        case ClassificationMetrics():
            return {
                "target": "classification",
                "test": test,
                "largest": max(test.per_class, key=lambda row: row.images),
                "per_class": sorted(test.per_class, key=lambda row: row.recall.value if row.recall else 2),
                "named": len(test.classes) <= MAX_NAMED_CLASSES,
            }
        case MultilabelMetrics():
            worst_first = sorted(
                test.per_label, key=lambda row: row.average_precision.value if row.average_precision else 2
            )
            return {"target": "multilabel", "test": test, "per_label": worst_first}
        case RegressionMetrics():
            return {"target": "regression", "test": test}


def percent(share: float) -> str:
    """Return a share in [0, 1] such as "98.6%", with enough digits to show 0% or 100% only if it is exact."""
    if share in (0, 1):
        return f"{share:.0%}"
    texts = (f"{share:.{digits}%}" for digits in range(1, 7))
    return next((text for text in texts if float(text[:-1]) not in (0, 100)), f"{share:.1%}")


def percent_range(interval: Interval) -> str:
    return f"{percent(interval.low)} to {percent(interval.high)}"


def number(value: float) -> str:
    return f"{value:.4g}"


def number_range(interval: Interval) -> str:
    return f"{number(interval.low)} to {number(interval.high)}"


def count_images(count: int, kind: str = "") -> str:
    """Return a count such as "1 image" or "2,000 test images"."""
    return f"{count:,} {kind + ' ' if kind else ''}image{'' if count == 1 else 's'}"


def thumbnail(pixels: "NDArray[np.uint8]") -> str:
    """Return a uint8 (H, W) or (H, W, 3) image, downsized, as a data URI."""
    image = Image.fromarray(pixels)
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    return data_uri(image, "PNG")


def write_report_file(path: Path, content: bytes) -> Path:
    """Write a report or one of its figures atomically.

    Raises:
        OutputError: if it cannot be written.
    """
    with writing("the report", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content)
    return path
