"""From what the user calls the data to labeled images that can all be read."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from megavit.config.names import canonical, find_look_alikes, show_code_points
from megavit.config.recipe import DataRecipe, OnCorrupt
from megavit.data.dataset import LabeledImages, Sample, Skipped, TargetValue
from megavit.data.listing import Candidate, Listing
from megavit.data.scan import ImageInfo, Progress, scan_images
from megavit.data.shards.listing import is_shards, list_shards
from megavit.data.shards.open import check_not_nearly_shards
from megavit.data.shards.verify import Verify
from megavit.data.sources.class_folders import EXPECTED
from megavit.data.sources.demo import DEMOS, PREFIX, read_demo
from megavit.data.sources.folder import list_folder
from megavit.data.sources.table import list_table
from megavit.data.split.split import SPLIT_POPULATION, complete_splits
from megavit.data.split.stratify import stratify
from megavit.errors import DataError, OutputError

TABLES = (".csv", ".tsv")


def load_data(
    source: str | Path,
    recipe: DataRecipe,
    progress: Progress | None = None,
    needs: Sequence[str] = (),
    verify: Verify = "held-out",
    known: Collection[str] | None = None,
) -> LabeledImages:
    """The images of a folder of class folders, a .csv or .tsv table of path and label(s) or score, shards, or a demo.

    Every image of a folder or a table is read to its end once; what cannot be is skipped, with its reason, as is one
    whose number of channels differs from most (1, 3 and 4 go together). Of shards the index says what was found when
    it was made. Splits that the data has are kept, and a missing one is taken from train.

    Args:
        needs: splits that must not be left empty by the recipe; refused before any image is read.
        verify: which shards are read, to leave out what is not as it was written: "all"; "held-out", those of
            validation and test, or all where there are none of their own; or "none": damage is met when an image is
            read, and another takes its place, so that the images stay what they are for a run that goes on.
        known: the classes of the model that is to be measured on the images: then one of them is enough, and nothing
            need be for training.

    Raises:
        DataError: where that gives no labeled images of two classes or more, saying what to do; or where a shard is
            damaged and `recipe.on_corrupt` is "fail".
    """
    text = os.fspath(source)
    if not text.strip():
        raise DataError("the name of the data is empty, which would be the current folder; give its name, or . for it")
    known = None if known is None else {canonical(name) for name in known}
    if text.startswith(PREFIX):
        _check_shares(text, set(), recipe, needs)
        return read_demo(text, recipe)
    listing, found = scan_source(
        source, recipe.on_corrupt, progress, verify, lambda splits: _check_shares(text, splits, recipe, needs), known
    )
    return _assembled(text, listing, found, recipe, known is not None)


def scan_source(
    source: str | Path,
    on_corrupt: OnCorrupt = "skip",
    progress: Progress | None = None,
    verify: Verify = "held-out",
    check: Callable[[set[str | None]], None] = lambda _: None,
    known: Collection[str] | None = None,
) -> tuple[Listing, list[ImageInfo | str]]:
    """What a folder, a table or shards offer, and of each candidate its facts, or the reason why it cannot be used.

    Args:
        check: given the splits that there are, before any image is read.
        known: as of `load_data`, in canonical form.

    Raises:
        DataError: as `load_data`, but not of classes that nothing is left of.
    """
    text, path = os.fspath(source), Path(source)
    if is_shards(text):
        listing, facts = list_shards(text, on_corrupt, progress, verify)
        check({candidate.split for candidate in listing.candidates})
        return listing, facts
    check_not_nearly_shards(text)
    if path.is_file() and path.suffix.lower() in TABLES:
        listing = list_table(path)
    elif path.is_dir():
        listing = list_folder(path, known)
    else:
        what = "is a file that is none of these" if path.exists() else "is not there"
        demos = ", ".join(PREFIX + demo for demo in DEMOS)
        raise DataError(
            f"data can be a folder, a {' or '.join(TABLES)} table, shards, or {demos}; {text!r} {what}. {EXPECTED}"
        )
    check({candidate.split for candidate in listing.candidates})
    assert listing.root is not None
    return listing, scan_images(listing.root, [candidate.name for candidate in listing.candidates], progress)


def check_outside_data(out: Path, source: str) -> None:
    """Raise an OutputError for an output folder within a folder of images, where it would become a class."""
    data = Path(source)
    if not source.startswith(PREFIX) and data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise OutputError(
            f"{out} lies within the data, {source}, and would become a class of it; choose a place outside with --out"
        )


def _check_shares(source: str, present: set[str | None], recipe: DataRecipe, needs: Sequence[str]) -> None:
    shares = {"val": recipe.val, "test": recipe.test}
    for split in needs:
        if split not in present and shares.get(split) == 0:
            raise DataError(
                f"{source!r} has no images for {split} of its own, and [data] {split} = 0 keeps none back: "
                f"give it a share such as {split} = 0.1"
            )


def _assembled(
    source: str, listing: Listing, found: Sequence[ImageInfo | str], recipe: DataRecipe, measured: bool
) -> LabeledImages:
    if listing.target == "multilabel" and not listing.classes:
        raise DataError(f"no image of {source!r} has a label; fill the column labels, such as with cat|indoors")
    if listing.target == "classification" and len(listing.classes) < 2 and not measured:
        raise DataError(
            f"{source!r} has only one class, {listing.classes[0]!r}; to tell apart takes at least two{_within(listing)}"
        )
    good: list[tuple[Candidate, ImageInfo]] = []
    bad: list[tuple[Candidate, str]] = []
    for candidate, facts in zip(listing.candidates, found, strict=True):
        if isinstance(facts, str):
            bad.append((candidate, facts))
        else:
            good.append((candidate, facts))
    good, unlike = _of_one_kind(good)
    bad += unlike
    _check_classes(source, listing.classes, [candidate for candidate, _ in good], bad, measured)

    good.sort(key=lambda pair: pair[0].name)
    digests = [facts.digest for _, facts in good]
    splits, division = complete_splits(
        [candidate.split for candidate, _ in good],
        stratify([candidate.target for candidate, _ in good], digests),
        digests,
        recipe.val,
        recipe.test,
        recipe.seed,
        SPLIT_POPULATION[listing.target],
    )
    number = {name: place for place, name in enumerate(listing.classes)}
    samples = tuple(
        Sample(
            candidate.name,
            _indexed(candidate.target, number),
            split,
            facts.height,
            facts.width,
            facts.channels,
            facts.digest,
            candidate.location,
            facts.stamp,
        )
        for (candidate, facts), split in zip(good, splits, strict=True)
    )
    skipped = (*listing.skipped, *(Skipped(candidate.name, reason) for candidate, reason in bad))
    return LabeledImages(
        source,
        listing.root,
        listing.classes,
        samples,
        skipped,
        division,
        target=listing.target,
        on_corrupt=recipe.on_corrupt,
        notes=listing.notes,
    )


def _within(listing: Listing) -> str:
    """Says which folder to give, where the one class has folders that may be the classes."""
    split_names = (candidate.name.split("/") for candidate in listing.candidates)
    folders = sorted({tuple(parts[:2]) for parts in split_names if len(parts) > 2})
    if len(folders) < 2 or listing.root is None:
        return ""
    inner = ", ".join(repr(name) for _, name in folders[:3])
    return f". If the folders within, {inner}, are the classes, give {str(listing.root / folders[0][0])!r}"


def _indexed(target: str | tuple[str, ...] | float, number: Mapping[str, int]) -> TargetValue:
    """The target with indices instead of names."""
    match target:
        case str() as label:
            return number[label]
        case tuple() as labels:
            return tuple(sorted(number[label] for label in labels))
        case score:
            return score


def _of_one_kind(
    good: Sequence[tuple[Candidate, ImageInfo]],
) -> tuple[list[tuple[Candidate, ImageInfo]], list[tuple[Candidate, str]]]:
    """Those with the channels of most, and the others; gray and color, with opacity or not, go together."""
    kinds = Counter(_kind(facts.channels) for _, facts in good)
    usual = max(kinds, key=lambda kind: (kinds[kind], kind), default=0)
    wanted = "1, 3 or 4" if usual == 3 else str(usual)
    alike = [pair for pair in good if _kind(pair[1].channels) == usual]
    unlike = [
        (candidate, f"{facts.channels} channels, where most images have {wanted}")
        for candidate, facts in good
        if _kind(facts.channels) != usual
    ]
    return alike, unlike


def _kind(channels: int) -> int:
    return 3 if channels in (1, 3, 4) else channels


def _check_classes(
    source: str,
    classes: Sequence[str],
    good: Sequence[Candidate],
    bad: Sequence[tuple[Candidate, str]],
    measured: bool,
) -> None:
    """Every class, or label, needs a name that can be written down, and an image that can be read and, unless it is
    only measured, learned from."""
    for name in classes:
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes that are no UTF-8
            raise DataError(f"the class {name!r} of {source!r} has a name that is not text; rename its folder")
    if measured and good:
        return
    readable = {name for candidate in good for name in candidate.names}
    reasons: dict[str, list[str]] = defaultdict(list)
    for candidate, reason in bad:
        for name in candidate.names:
            reasons[name].append(f"{candidate.name!r}: {reason}")
    for name in classes:
        if name not in readable:
            why = f"; {'; '.join(reasons[name][:3])}" if reasons[name] else ""
            raise DataError(
                f"the class {name!r} of {source!r} has no image that can be read{why}. "
                "Add images to it, or remove the class"
            )
    learned = {name for candidate in good if candidate.split in (None, "train") for name in candidate.names}
    unlearned = [name for name in classes if name not in learned]
    if unlearned:
        alike = next((group for group in find_look_alikes(classes) if set(group) & set(unlearned)), None)
        same = f". Is it one class: {show_code_points(alike)}?" if alike else ""
        raise DataError(
            f"{source!r} has images of {', '.join(map(repr, unlearned[:5]))} for validation or test, but none that can "
            f"be read for training. Add some to train, or remove the class{same}"
        )
