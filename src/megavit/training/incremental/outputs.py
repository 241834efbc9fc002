"""Compute a model's features and logits for the images that a changed head is fitted and measured on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from megavit.data.dataset import Sample
from megavit.data.targets import target_tensor
from megavit.engine.engine import ModelOutput
from megavit.evaluation.inference import run_inference
from megavit.predict.predictor import Predictor
from megavit.training.incremental.run_images import ImagePart
from megavit.training.progress import Reporter
from megavit.training.report.examples import select_ood_samples

BATCH_SIZE = 64


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


def compute_outputs(predictor: Predictor, parts: Sequence[ImagePart], reporter: Reporter) -> dict[str, SplitOutputs]:
    """Return the outputs of the images by split; of training images only as many as a report takes of them."""
    chosen = [(part, [*_chosen(part)]) for part in parts]
    total, done = sum(len(samples) for _, samples in chosen), 0
    outputs: list[ModelOutput] = []
    for part, samples in chosen:
        if samples:
            outputs.append(
                run_inference(
                    predictor,
                    part.images,
                    samples,
                    BATCH_SIZE,
                    lambda count, _, done=done: reporter.progress("computing features", done + count, total),
                )
            )
        done += len(samples)
    every = ModelOutput(*(torch.cat(tensors) for tensors in zip(*outputs, strict=True)))
    samples: list[Sample] = [sample for _, some in chosen for sample in some]
    labels = target_tensor(samples, "classification", 0)
    by_split: dict[str, SplitOutputs] = {}
    for split in ("train", "val", "test"):
        mask = torch.tensor([sample.split == split for sample in samples])
        by_split[split] = SplitOutputs(every.pooled[mask], every.logits[mask], labels[mask])
    return by_split


def _chosen(part: ImagePart) -> Sequence[Sample]:
    training = [sample for sample in part.samples if sample.split == "train"]
    return [
        *(select_ood_samples(training) if training else ()),
        *(sample for sample in part.samples if sample.split != "train"),
    ]
