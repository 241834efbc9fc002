"""Compute a model's features and logits for the images that a changed head is fitted and measured on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from megavit.data.dataset import Sample
from megavit.data.split.split_names import SPLITS
from megavit.data.targets import target_tensor
from megavit.engine.engine import ModelOutput
from megavit.evaluation.inference import embed_samples
from megavit.predict.embedding_index import share_embeddings
from megavit.predict.predictor import Predictor
from megavit.training.incremental.run_images import ImagePart
from megavit.training.progress import Reporter
from megavit.training.report.examples import select_ood_samples


@dataclass(frozen=True)
class SplitOutputs:
    """The features (N, D) and logits (N, C) of images, with their classes (N,).

    The logits are those of the unchanged model, whose classes may be others.
    """

    pooled: Tensor
    logits: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def plus(self, other: "SplitOutputs") -> "SplitOutputs":
        """Return these images and then those of `other`."""
        return SplitOutputs(
            torch.cat([self.pooled, other.pooled]),
            torch.cat([self.logits, other.logits]),
            torch.cat([self.labels, other.labels]),
        )

    def with_head(self, weight: Tensor, bias: Tensor) -> ModelOutput:
        """Return the features with the logits of another head."""
        return ModelOutput(self.pooled, self.pooled @ weight.T + bias)


Outputs = Mapping[str, SplitOutputs]
"""The outputs of images by split."""


def compute_outputs(predictor: Predictor, parts: Sequence[ImagePart], reporter: Reporter) -> Outputs:
    """Return the outputs of the images by split; of training images only as many as a report takes of them."""
    chosen = [(part, [*_chosen(part)]) for part in parts if part.samples]
    shared = share_embeddings(predictor, reporter.say)
    total, done = sum(len(samples) for _, samples in chosen), 0
    found: list[Tensor] = []
    for part, samples in chosen:
        progress = partial(_progress, reporter, done, total)
        found.append(embed_samples(predictor.engine, part.images, samples, progress, shared))
        done += len(samples)
    pooled = torch.cat(found)
    with torch.no_grad():
        logits = predictor.model.mlp_head(pooled.to(next(predictor.model.parameters()).device)).float().cpu()
    samples: list[Sample] = [sample for _, some in chosen for sample in some]
    labels = target_tensor(samples, "classification", 0)
    by_split: dict[str, SplitOutputs] = {}
    for split in SPLITS:
        mask = torch.tensor([sample.split == split for sample in samples])
        by_split[split] = SplitOutputs(pooled[mask], logits[mask], labels[mask])
    return by_split


def _progress(reporter: Reporter, before: int, total: int, done: int, _: int) -> None:
    reporter.progress("embedding images", before + done, total)


def _chosen(part: ImagePart) -> Sequence[Sample]:
    training = [sample for sample in part.samples if sample.split == "train"]
    return [
        *(select_ood_samples(training) if training else ()),
        *(sample for sample in part.samples if sample.split != "train"),
    ]
