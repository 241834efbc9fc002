"""Write the labels that a folder has already into its log, so that they can be corrected on the page."""

from pathlib import Path, PurePosixPath

from megavit.config.recipe import DataRecipe
from megavit.config.target import TargetKind
from megavit.data.file_names import IMAGE_SUFFIXES
from megavit.data.load import scan_source
from megavit.data.scan import ImageInfo, Listing, Progress
from megavit.data.sources.label_log import LABEL_LOG, is_label_log, parse_label_log
from megavit.errors import ConfigError
from megavit.labeling.store import LabelStore, Mark

STROKE = "existing"
"""Identifier of the stroke by which labels are taken over."""


def import_labels(folder: Path, progress: Progress | None = None) -> TargetKind:
    """Write the labels and splits of class folders or a table into a folder's log unless it has one; return their kind.

    Images that cannot be read keep their labels too, so that the check tells of them.

    Raises:
        ConfigError: if the folder has numbers instead of labels.
        DataError: if the folder has no labels.
        OutputError: if the log cannot be written.
    """
    log = folder / LABEL_LOG
    if is_label_log(log):
        return parse_label_log(log.read_bytes(), str(log)).target
    listing, infos = scan_source(folder, DataRecipe(), progress)
    if listing.target == "regression":
        raise ConfigError(f"{folder} has numbers instead of labels, which megavit label cannot correct")
    LabelStore(folder, listing.target).add(STROKE, _marks(listing, infos), "")
    return listing.target


def _marks(listing: Listing, infos: list[ImageInfo | str]) -> list[Mark]:
    return [
        Mark(candidate.name, "labeled", candidate.names, split=candidate.split or "")
        for candidate, info in zip(listing.candidates, infos, strict=True)
        if candidate.location is None and (isinstance(info, ImageInfo) or _is_named_as_image(candidate.name))
    ]


def _is_named_as_image(name: str) -> bool:
    return PurePosixPath(name).suffix[1:].lower() in IMAGE_SUFFIXES
