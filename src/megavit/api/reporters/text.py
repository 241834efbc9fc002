"""Describe the events of a run in words, alike for a terminal and a notebook."""

from typing import TYPE_CHECKING

from megavit.config.names import abbreviate, printable

if TYPE_CHECKING:
    from megavit.config.recipe import Recipe
    from megavit.data.dataset import LabeledImages
    from megavit.training.history import EpochRecord


def describe_data(dataset: "LabeledImages") -> str:
    """Return a line on the number of images, their target and their splits."""
    counts = dataset.split_sizes()
    return (
        f"{len(dataset.samples):,} images {_describe_target(dataset)}: {counts['train']:,} for training, "
        f"{counts['val']:,} for validation, {counts['test']:,} for test"
    )


def list_classes(dataset: "LabeledImages") -> str:
    """Return the names of the classes, shortened; "" for regression."""
    return f"  {abbreviate(dataset.classes)}" if dataset.classes else ""


def list_skipped(reasons: dict[str, int]) -> list[str]:
    """Return lines on how many files were skipped for each reason."""
    return [
        f"  {count:,} {'file' if count == 1 else 'files'} skipped: {printable(reason)}"
        for reason, count in reasons.items()
    ]


def describe_plan(recipe: "Recipe", steps: int, parameters: int) -> str:
    """Return a line on the model and the steps of its training."""
    about = "" if recipe.run.epochs else "about "
    size = f"{recipe.model.image_size} px in patches of {recipe.model.patch_size}"
    if recipe.data.keep_aspect:
        size += ", aspect ratio kept"
    return (
        f"model {recipe.model.preset}: {parameters:,} parameters, {size}; "
        f"{about}{steps:,} steps of {recipe.run.batch_size} images in {recipe.run.precision}"
    )


def describe_epoch(record: "EpochRecord") -> str:
    """Return a line on a validation."""
    loss = "  none" if record.train_loss is None else f"{record.train_loss:.3f}"
    rank = "" if record.effective_rank is None else f"  effective rank {record.effective_rank:.1f}"
    return (
        f"epoch {record.epoch:>5g}  {record.seconds:6.1f} s  loss {loss}  "
        f"validation {record.metric} {record.val_metric:{'.3f' if record.metric == 'R²' else '.1%'}}{rank}"
    )


def _describe_target(images: "LabeledImages") -> str:
    match images.target:
        case "classification":
            return f"of {len(images.classes)} classes"
        case "multilabel":
            return f"with {len(images.classes)} labels, any number per image"
        case "regression":
            values = [sample.value for sample in images.samples]
            return f"with values from {min(values):.4g} to {max(values):.4g}"
