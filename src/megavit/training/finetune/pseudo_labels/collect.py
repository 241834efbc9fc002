"""Give pseudo-labels to the images without labels that there is time to embed, and record what became of each.

RUN/unlabeled.json      number of images that are embedded, decided once
RUN/pseudo_labels.csv   every image with its predicted class, and whether that is used or why not
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from megavit.config.serialization import parse_json
from megavit.data.dataset import Sample
from megavit.data.unlabeled import UnlabeledImages
from megavit.errors import BundleError, ConfigError
from megavit.runtime.csv_files import csv_text
from megavit.runtime.seeds import generator
from megavit.runtime.storage import write_file, writing
from megavit.training.context import RunContext
from megavit.training.finetune.embeddings import Embeddings
from megavit.training.finetune.progressive import FrozenFeatures
from megavit.training.finetune.pseudo_labels.comparison import PseudoLabels, compare_pseudo_labels
from megavit.training.history import PseudoLabelSummary
from megavit.training.loop.build import make_eval_loader

MAX_IMAGES = 10_000
"""Largest number of images without labels that are embedded: their nearest neighbors take time with its square."""
TIME_SHARE, PROBE_SHARE = 0.4, 0.7
"""Share of the time left, of a run that tunes weights and of one that does not, for embedding them."""
COUNT, TABLE = "unlabeled.json", "pseudo_labels.csv"
OUTLIER, UNSURE = "unlike the labeled images", "predicted with less than {:.0%} confidence"
TOO_MANY, NO_TIME = f"more than {MAX_IMAGES:,}, chosen at random", "no time to embed them, chosen at random"


@dataclass(frozen=True)
class LabeledByPrediction:
    """The images without labels that were embedded, those that were not for `limit`, and their pseudo-labels."""

    unlabeled: UnlabeledImages
    samples: list[Sample]
    rest: list[Sample]
    limit: str
    labels: PseudoLabels

    def finish(self, run_dir: Path, indices: Tensor, classes: tuple[str, ...]) -> PseudoLabelSummary:
        """Write the table of all images, and return its summary, for labels learned from the images at `indices`."""
        predicted, confidence = self.labels.predict(indices), self.labels.confidence
        unsure = UNSURE.format(confidence)
        used: Counter[str] = Counter()
        refused = Counter(self.unlabeled.refused_by_reason())
        rows: list[tuple[str, ...]] = [(one.name, "", "", one.reason) for one in self.unlabeled.refused]
        rows += [(sample.name, "", "", self.limit) for sample in self.rest]
        refused.update({self.limit: len(self.rest)} if self.rest else {})
        for sample, label, probability, is_outlier, is_used in zip(
            self.samples,
            predicted.classes.tolist(),
            predicted.probabilities.tolist(),
            predicted.is_outlier.tolist(),
            predicted.are_used(confidence).tolist(),
            strict=True,
        ):
            reason = "" if is_used else OUTLIER if is_outlier else unsure
            (used if is_used else refused)[classes[label] if is_used else reason] += 1
            rows.append((sample.name, classes[label], f"{probability:.6f}", reason or "used"))
        with writing("the table of pseudo-labels", run_dir):
            write_file(run_dir / TABLE, csv_text(("name", "label", "probability", "status"), sorted(rows)))
        return PseudoLabelSummary(
            source=self.unlabeled.images.source,
            used={name: used[name] for name in classes if used[name]},
            refused=dict(refused.most_common()),
            gain=self.labels.gain,
        )


def label_by_prediction(
    ctx: RunContext, embeddings: Embeddings, frozen: FrozenFeatures, pool: tuple[Sample, ...], finish_seconds: float
) -> LabeledByPrediction | None:
    """Return pseudo-labels for the run's images without labels, or None if it has none.

    Args:
        pool: the labeled images of `frozen`.
        finish_seconds: time that the end of the run will take.

    Raises:
        BundleError: if what a stopped run has written is damaged.
        DataError, OutputError: as for `Embeddings.of`.
    """
    recipe = frozen.task.recipe.pseudo_labels
    if ctx.unlabeled is None or recipe is None:
        return None
    found, task = ctx.unlabeled, embeddings.start.task
    order = torch.randperm(len(found.samples), generator=generator(task.recipe.run.seed)).tolist()
    count = _read_count(ctx.run_dir)
    if count is None:
        chosen = [found.samples[index] for index in order[:MAX_IMAGES]]
        count = _choose_count(ctx, embeddings, chosen, finish_seconds)
        with writing("the run", ctx.run_dir):
            write_file(ctx.run_dir / COUNT, json.dumps({"images": count}))
    samples, rest = ([found.samples[index] for index in sorted(part)] for part in (order[:count], order[count:]))
    limit = TOO_MANY if count == MAX_IMAGES else NO_TIME
    if rest:
        ctx.reporter.say(f"{len(rest):,} of {len(order):,} images without labels are left out: {limit}")
    images = found.images
    loader = make_eval_loader(ctx, task, samples, images)
    rows = embeddings.of(loader)
    digests = [sample.digest for sample in pool]
    labels = compare_pseudo_labels(frozen, rows, digests, recipe.confidence)
    return LabeledByPrediction(found, samples, rest, limit, labels)


def _choose_count(ctx: RunContext, embeddings: Embeddings, samples: Sequence[Sample], finish_seconds: float) -> int:
    """Return how many of the samples, the first ones, a run by time can embed."""
    recipe, missing = embeddings.start.task.recipe, embeddings.count_missing(samples)
    if recipe.run.epochs or not missing:
        return len(samples)
    share = PROBE_SHARE if recipe.finetune.method == "probe" else TIME_SHARE
    seconds = share * (recipe.run.minutes * 60 - finish_seconds - ctx.clock.elapsed)
    each = embeddings.image_seconds * missing / len(samples)
    return max(1, min(len(samples), int(seconds / max(each, 1e-6))))


def _read_count(run_dir: Path) -> int | None:
    """Return the number that a stopped run has decided on; None for a new one."""
    path = run_dir / COUNT
    try:
        count = parse_json(path.read_bytes(), str(path)).get("images")
    except FileNotFoundError:
        return None
    except (ConfigError, OSError) as error:
        raise BundleError(f"the run in {run_dir} cannot be resumed: {error}") from None
    if not isinstance(count, int) or count < 1:
        raise BundleError(f"the run in {run_dir} cannot be resumed: {path} must have the number of images")
    return count
