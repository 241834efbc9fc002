"""How a run opens: the folder that is its own, the images that it reads, the processes that do it."""

import shlex
from pathlib import Path

import torch

from megavit.check.quick import warnings_of
from megavit.config.recipe import Recipe
from megavit.data.demos import PREFIX
from megavit.data.ranges import is_url
from megavit.data.read import read_data
from megavit.data.samples import LabelledImages
from megavit.data.shards.index import is_tar
from megavit.errors import DataError
from megavit.parallel.team import Team
from megavit.runtime.ranks import Ranks
from megavit.runtime.storage import check_writable
from megavit.train.again import is_restart, mark_begun
from megavit.train.plan import PLAN, check_place
from megavit.train.watch import Watch


def begin(out: Path, source: str) -> bool:
    """Check that a run can begin in `out`, and mark it as begun; whether one that these processes began is there."""
    if not is_restart(out):
        check_place(out, source)
    if not is_text(source):
        raise DataError(f"the name {source!r} is not text, so that the run could not record it; rename the folder")
    check_writable(out, "the run", need=0)
    mark_begun(out)
    return (out / PLAN).exists()


def check_same(images: LabelledImages, crew: Ranks) -> None:
    """Raise a DataError unless every process has read the same images."""
    found = crew.every(images.fingerprint())
    other = [rank for rank, fingerprint in enumerate(found) if fingerprint != found[0]]
    if other:
        raise DataError(
            f"processes {', '.join(map(str, other))} read other images than process 0: {images.source} must be the "
            "same on every machine"
        )


def team_of(recipe: Recipe, crew: Ranks, device: torch.device) -> Team | None:
    """The processes that train by a settled recipe; None: this one alone."""
    return Team(crew, recipe.parallel, device) if crew.many else None


def recorded_name(source: str, images: LabelledImages) -> str:
    """What the user calls the data, such that it is found from any folder."""
    return source if images.root is None else str(Path(source).absolute())


def still_there(source: str, out: Path) -> str:
    """Return the recorded name of the data of the run in `out`.

    Raises:
        DataError: where there is nothing by that name any more, saying how to go on.
    """
    place = Path(source).parent if is_tar(source) else Path(source)
    if source.startswith(PREFIX) or is_url(source) or place.exists():
        return source
    raise DataError(
        f"the images of this run are no longer at {source}: put them back, or say where they are now, with "
        f"megavit train --resume {shlex.quote(str(out))} DATA"
    )


def is_text(name: str) -> bool:
    """Whether a file name, which can be any bytes, can also be written down."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_images(source: str, recipe: Recipe, watch: Watch) -> LabelledImages:
    """The data, with something in each split."""
    images = read_data(
        source,
        recipe.data,
        lambda done, total: watch.progress("checking images", done, total),
        needs=("val", "test"),
        verify="none",
    )
    for split in ("train", "val", "test"):
        if not images.of(split):
            raise DataError(
                f"there are no images for {split}: {images.division}. "
                "A class gives one to each split if it has at least 3; add images, or a split of your own"
            )
    watch.data(images)
    return images


def tell_warnings(images: LabelledImages, crew: Ranks, watch: Watch) -> None:
    """Say what shows of the images without looking at a pixel; the leader alone looks."""
    for line in warnings_of(images) if crew.leads else []:
        watch.say(line)
