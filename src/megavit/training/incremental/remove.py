"""Remove classes from a bundle: rows of its head, and everything that follows from them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from megavit.config.names import abbreviate, index_by_name
from megavit.data.dataset import read_samples
from megavit.data.load import DataSource
from megavit.errors import ConfigError
from megavit.predict.predictor import Predictor
from megavit.training.incremental.change import (
    NewHead,
    check_changeable,
    check_out,
    get_head_parts,
    measure_head,
    write_changed,
)
from megavit.training.incremental.outputs import compute_outputs
from megavit.training.incremental.result import ClassRemoval
from megavit.training.incremental.run_images import ImagePart, read_run_images
from megavit.training.progress import Reporter
from megavit.training.setup.source import portable_name
from megavit.weights.bundle.bundle import SAMPLES

MIN_CLASSES = 2


def remove_classes(
    predictor: Predictor, classes: Sequence[str], out: Path, data: DataSource | None, reporter: Reporter
) -> ClassRemoval:
    """Remove classes from a bundle, and write it to `out`.

    Its `samples.csv` still lists their images, as the features were trained on them.

    Args:
        data: where the images of the bundle are; None for where they were in training.

    Raises:
        BundleError: if the bundle does not predict one class, or does not say where its images are.
        ConfigError: if the bundle does not have one of the classes, or fewer than two would remain.
        DataError: if the bundle's images cannot be used.
        OutputError: if `out` is another existing folder, or cannot be written.
    """
    check_changeable(predictor)
    kept = _kept(predictor, classes)
    target = check_out(predictor, out)
    images = [_without(part, kept) for part in read_run_images(predictor, data, reporter)]
    outputs = compute_outputs(predictor, images, reporter)
    own = predictor.model.mlp_head.state_dict()
    labels = tuple(predictor.labels[label] for label in kept)
    ends = list(accumulate(get_head_parts(predictor)))
    parts = [sum(start <= label < stop for label in kept) for start, stop in zip([0, *ends], ends, strict=False)]
    head = NewHead(labels, own["weight"].cpu()[kept], own["bias"].cpu()[kept], tuple(filter(None, parts)))
    measured = measure_head(predictor, head, outputs)
    removed = tuple(label for label in predictor.labels if label not in labels)
    write_changed(
        predictor,
        target,
        head,
        measured,
        location=portable_name(images[0].images),
        data={"removed": [*predictor.info.data.get("removed", []), *removed]},
        rows=read_samples(predictor.folder / SAMPLES),
    )
    return ClassRemoval(folder=target, removed=removed, metrics=measured.test, uncertainty=measured.uncertainty)


def _kept(predictor: Predictor, classes: Sequence[str]) -> list[int]:
    """Return the indices of the classes that remain."""
    index = index_by_name(predictor.labels)
    unknown = [name for name in classes if name not in index]
    known = f"it has {abbreviate(predictor.labels)}"
    if not classes or unknown:
        what = f"no class {', '.join(map(repr, unknown[:5]))}" if unknown else "classes, but none was named to remove"
        raise ConfigError(f"{predictor.folder} has {what}: {known}")
    dropped = {index[name] for name in classes}
    kept = [label for label in range(len(predictor.labels)) if label not in dropped]
    if len(kept) < MIN_CLASSES:
        raise ConfigError(f"a classifier needs at least {MIN_CLASSES} classes, and {len(kept)} would remain: {known}")
    return kept


def _without(part: ImagePart, kept: Sequence[int]) -> ImagePart:
    index = {label: position for position, label in enumerate(kept)}
    samples = (replace(sample, target=index[sample.label]) for sample in part.samples if sample.label in index)
    return replace(part, samples=tuple(samples))
