"""What a run decided before its first step, and keeps through every stop."""

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from megavit.config.files import dump_toml, from_dict, parse_json
from megavit.config.recipe import Recipe
from megavit.data.samples import LabelledImages, write_samples
from megavit.errors import BundleError, ConfigError
from megavit.runtime.storage import write_file, writing

PLAN, RECIPE, SAMPLES, SKIPPED = "plan.json", "recipe.toml", "samples.csv", "skipped.csv"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What cannot change between a stop and going on.

    Attributes:
        source: of the data: demo:NAME, or an absolute path.
        fingerprint: of the images, their labels and splits.
        recipe: with every choice filled in.
        steps: in all.
        threads: of torch; sums in another order would differ in their last bits.
    """

    source: str
    fingerprint: str
    recipe: Recipe
    steps: int
    threads: int


def write_plan(out: Path, plan: Plan, images: LabelledImages) -> None:
    """Write the plan last, so that a folder that has one can be resumed.

    Raises:
        OutputError: when `out` cannot be written.
    """
    with writing("the run", out):
        write_samples(out / SAMPLES, images.samples, images.classes)
        write_file(out / SKIPPED, _skipped_table(images))
        write_file(out / RECIPE, dump_toml(plan.recipe))
        write_file(out / PLAN, json.dumps(asdict(plan), indent=1))


def read_plan(out: Path) -> Plan:
    """The plan of the run in `out`.

    Raises:
        BundleError: when there is none, or it is damaged.
    """
    path = out / PLAN
    if not path.is_file():
        raise BundleError(f"there is no run to resume in {out}: it has no {PLAN}; start one with megavit train DATA")
    try:
        return from_dict(Plan, parse_json(path.read_bytes(), str(path)), str(path))
    except (ConfigError, OSError) as error:
        raise BundleError(f"the run in {out} cannot be resumed: {error}") from None


def _skipped_table(images: LabelledImages) -> bytes:
    text = io.StringIO(newline="")
    table = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    table.writerow(("name", "reason"))
    table.writerows((skipped.name, skipped.reason) for skipped in images.skipped)
    return text.getvalue().encode("utf-8", "surrogateescape")
