"""Read the images that a run trains on, and name their source so that the run can be resumed anywhere."""

from pathlib import Path
from typing import Any

from megavit.config.names import shell_quote
from megavit.config.recipe import DataRecipe
from megavit.data.dataset import LabeledImages
from megavit.data.load import DataSource, is_reachable, load_data
from megavit.data.sources.records.memory import IN_MEMORY
from megavit.data.sources.table_options import Table
from megavit.data_check.quick_checks import data_warnings
from megavit.errors import DataError
from megavit.runtime.process_group import DistContext
from megavit.training.progress import Reporter


def read_dataset(source: DataSource, recipe: DataRecipe, reporter: Reporter) -> LabeledImages:
    """Return the images of `source`, or raise DataError if a split is empty."""
    dataset = load_data(
        source,
        recipe,
        lambda done, total: reporter.progress("checking images", done, total),
        required_splits=("val", "test"),
        verify="none",
    )
    for split in ("train", "val", "test"):
        if not dataset.in_split(split):
            raise DataError(
                f"there are no images for {split}: {dataset.split_description}. "
                "A class needs at least 3 images to be in every split: add images, or define the splits yourself"
            )
    reporter.data(dataset)
    return dataset


def report_warnings(dataset: LabeledImages, dist: DistContext, reporter: Reporter) -> None:
    """Report warnings about the images that need no pixel data; only the main process reports."""
    for line in data_warnings(dataset) if dist.is_main_process else []:
        reporter.say(line)


def check_same_images(dataset: LabeledImages, dist: DistContext) -> None:
    """Raise DataError unless all processes have read the same images; a collective operation."""
    fingerprints = dist.all_gather(dataset.fingerprint())
    others = [rank for rank, fingerprint in enumerate(fingerprints) if fingerprint != fingerprints[0]]
    if others:
        raise DataError(
            f"the images read by processes {', '.join(map(str, others))} differ from those read by process 0: "
            f"{dataset.source} must be the same on every machine"
        )


def with_columns(overrides: dict[str, Any], source: DataSource) -> dict[str, Any]:
    """Return the settings with those of a `Table`, and an absolute folder of images, so that a run can be resumed."""
    data = overrides.get("data", {}) | (source.settings if isinstance(source, Table) else {})
    if isinstance(data.get("image_root"), str):
        data["image_root"] = str(Path(data["image_root"]).absolute())
    return overrides | {"data": data}


def portable_name(dataset: LabeledImages) -> str:
    """Return the name of the images' source, with an absolute path if it is one."""
    name = dataset.source
    is_path = name != IN_MEMORY and (dataset.root is not None or Path(name).exists())
    return str(Path(name).absolute()) if is_path else name


def check_source(source: str, run_dir: Path) -> str:
    """Return `source`, or raise DataError with advice on resuming if the data is no longer there."""
    if source == IN_MEMORY:
        raise DataError(
            f"the images of the run in {run_dir} were in the memory of a process that has ended: resume it from "
            "Python, with the same data"
        )
    if is_reachable(source):
        return source
    raise DataError(
        f"the images of this run are no longer at {source}: move them back, or pass their new location with "
        f"megavit train --resume {shell_quote(str(run_dir))} DATA"
    )
