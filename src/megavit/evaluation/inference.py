"""Select the images to evaluate a bundle on, and run the bundle on them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from megavit.config.names import find_look_alikes, index_by_name, show_code_points
from megavit.config.target import TargetKind
from megavit.data.dataset import TARGET_COLUMNS, LabeledImages, Sample, SampleRow, TargetValue
from megavit.data.image_dataset import ImageDataset, can_convert_channels
from megavit.data.loader.loader import iter_batches, sequential_batches
from megavit.data.scan import MIN_IMAGES_FOR_WORKERS, Progress
from megavit.data.workers import count_workers
from megavit.engine.engine import Engine, ModelOutput
from megavit.engine.ensemble import EnsembleEngine
from megavit.errors import DataError
from megavit.predict.embedding_files import SharedEmbeddings
from megavit.predict.predictor import Predictor

EMBED_BATCH = 64


@dataclass(frozen=True)
class SplitSelection:
    """Images to evaluate on.

    Attributes:
        samples: samples with the bundle's class or label indices.
        excluded: number of images left out because the model was trained on them or selected by them.
        split: split of the images; "all" if the data has no test or validation split.
    """

    samples: tuple[Sample, ...]
    excluded: int
    split: str


def select_split(
    images: LabeledImages, labels: Sequence[str], known: Sequence[SampleRow], target: TargetKind = "classification"
) -> SplitSelection:
    """Return the test split, else the validation split, else all images, without images seen in training.

    Images are recognized by their files' bytes, whatever their names.

    Args:
        labels: class or label names of the bundle.
        known: rows of the bundle's `samples.csv`; for a comparison, those of both bundles.
        target: kind of the bundle's target.

    Raises:
        DataError: if the kind of target differs, the bundle does not know a class, or no image is left.
    """
    if images.target != target:
        kinds = {"classification": "one class", "multilabel": "any number of labels", "regression": "a score"}
        raise DataError(
            f"{images.source} has {kinds[images.target]} per image, but the bundle predicts {kinds[target]}: "
            f"pass a table with the column {TARGET_COLUMNS[target]}"
            + (", or class folders" if target == "classification" else "")
        )
    index = index_by_name(labels)
    unknown = [name for name in images.classes if name not in index]
    if unknown:
        raise DataError(
            f"{images.source} has classes that the bundle does not have: {', '.join(map(repr, unknown[:10]))}; "
            f"it has {', '.join(map(repr, labels[:10]))}{' …' if len(labels) > 10 else ''}"
            f"{_look_alike_hint(unknown, labels)}"
        )
    split, offered = next(
        ((split, found) for split in ("test", "val") if (found := images.in_split(split))), ("all", images.samples)
    )
    seen_in_training = {row.digest for row in known if row.split != "test"}
    unseen = [sample for sample in offered if sample.digest not in seen_in_training]
    if not unseen:
        raise DataError(
            f"the model was trained or selected on all {len(offered)} images of {images.source}, so they cannot show "
            "how well it generalizes: evaluate on images it has not seen"
        )
    indices = [index[name] for name in images.classes]
    samples = tuple(replace(sample, target=_remap_target(sample.target, indices)) for sample in unseen)
    return SplitSelection(samples, len(offered) - len(unseen), split)


def run_inference(
    predictor: Predictor, images: LabeledImages, samples: Sequence[Sample], batch_size: int, progress: Progress
) -> ModelOutput:
    """Return the model's output for the samples, in order.

    Raises:
        DataError: if the model does not take the images' channels, or an image can no longer be read.
    """
    preprocessing = predictor.info.preprocessing
    check_channels(images, samples, preprocessing.channels)
    dataset = ImageDataset(images, samples, preprocessing)
    outputs: list[ModelOutput] = []
    for batch in iter_batches(
        dataset, sequential_batches(len(dataset), batch_size), num_decode_workers(images, len(dataset))
    ):
        outputs.append(predictor.forward(batch))
        progress(sum(len(output.logits) for output in outputs), len(dataset))
    return ModelOutput(*(torch.cat(parts) for parts in zip(*outputs, strict=True)))


def embed_samples(
    engine: Engine | EnsembleEngine,
    images: LabeledImages,
    samples: Sequence[Sample],
    progress: Progress | None = None,
    shared: SharedEmbeddings | None = None,
) -> Tensor:
    """Return the embeddings (N, D) of the samples, in order.

    Args:
        shared: embeddings that commands have of the engine's model, which are used, and to which the others are added.

    Raises:
        DataError: if the model does not take the images' channels, or an image can no longer be read.
    """
    check_channels(images, samples, engine.preprocessing.channels)
    known = shared.rows if shared else {}
    missing = [*{sample.digest: sample for sample in samples if sample.digest not in known}.values()]
    dataset, order = ImageDataset(images, missing, engine.preprocessing), sequential_batches(len(missing), EMBED_BATCH)
    computed: list[Tensor] = []
    done, began = len(samples) - len(missing), time.monotonic()
    for batch in iter_batches(dataset, order, num_decode_workers(images, len(missing))):
        computed += engine(batch).pooled
        if progress is not None:
            progress(done + len(computed), len(samples))
    rows = dict(zip((sample.digest for sample in missing), computed, strict=True))
    if shared is not None:
        shared.add(rows, time.monotonic() - began)
    return torch.stack([rows[sample.digest] if sample.digest in rows else known[sample.digest] for sample in samples])


def check_channels(images: LabeledImages, samples: Sequence[Sample], channels: int) -> None:
    """Raise a DataError for the first image that cannot be converted to the model's channels."""
    wrong = next((sample for sample in samples if not can_convert_channels(sample.channels, channels)), None)
    if wrong is not None:
        raise DataError(
            f"{wrong.name!r} of {images.source!r} has {wrong.channels} channels, "
            f"but the bundle takes images with {channels}"
        )


def num_decode_workers(images: LabeledImages, count: int) -> int:
    """Return the number of processes to decode `count` images with; 0 if starting them would take longer."""
    return 0 if images.is_decoded or count < MIN_IMAGES_FOR_WORKERS else count_workers()


def _look_alike_hint(unknown: Sequence[str], labels: Sequence[str]) -> str:
    known = set(labels)
    alike = (names for names in find_look_alikes([*labels, *unknown]) if set(names) - known and set(names) & known)
    group = next(alike, None)
    return "" if group is None else f". Are these the same: {show_code_points(group)}?"


def _remap_target(target: TargetValue, indices: Sequence[int]) -> TargetValue:
    match target:
        case int() as label:
            return indices[label]
        case tuple() as labels:
            return tuple(sorted(indices[label] for label in labels))
        case value:
            return value
