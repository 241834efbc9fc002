"""What a finished model is worth: its answers on the test images, and how far they may be trusted."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from megavit.config.target import Target
from megavit.config.trust import Trust
from megavit.data.samples import LabelledImages
from megavit.engine.engine import Engine, Seen
from megavit.evaluate.labels import best_thresholds
from megavit.evaluate.measure import AnyMetrics, measure_target
from megavit.evaluate.trust import TrustMetrics, fit_trust, measure_trust
from megavit.model.vit import MegaVit
from megavit.predict.trusted import Trusted
from megavit.train.feed import Feed
from megavit.train.loop import Task
from megavit.train.prepare import compared, final_pass
from megavit.train.watch import Watch


@dataclass(frozen=True)
class Judged:
    """What came of it.

    Attributes:
        target: with its thresholds, where it has any.
        trust: what was fitted on the validation images, with what came of it on the test images.
        tensors: of `trust`.
        answers: for the test images, calibrated.
        test, val: metrics of the test images and of the validation images.
        trusted: how far the answers for the test images can be trusted.
    """

    target: Target
    trust: Trust
    tensors: dict[str, Tensor]
    answers: Tensor
    test: AnyMetrics
    val: AnyMetrics
    trusted: TrustMetrics


def judge(model: MegaVit, task: Task, images: LabelledImages, validation: Feed, testing: Feed, watch: Watch) -> Judged:
    """Fit on the validation images what makes the answers trustworthy, and measure them on the test images.

    Args:
        validation, testing: feed these images.
    """
    engine = Engine(model, task.preprocessing)
    learning = Feed(images, compared(images.of("train")), task.preprocessing, task.recipe.run.workers, watch)
    val, test, learnt = (see(engine, feed) for feed in (validation, testing, learning))
    trust, tensors = fit_trust(val, validation.labels, task.target, (learnt.pooled, learning.labels))
    target = task.target
    trusted = Trusted(trust, tensors, target, len(images.classes))
    if target.kind == "labels":
        target = replace(target, thresholds=best_thresholds(trusted.answers(val.logits), validation.labels))
    answers = trusted.answers(test.logits)
    measured = measure_trust(trusted, test, testing.labels)
    return Judged(
        target=target,
        trust=replace(trust, measured=measured.to_dict()),
        tensors=tensors,
        answers=answers,
        test=measure_target(answers, testing.labels, images.classes, target),
        val=measure_target(trusted.answers(val.logits), validation.labels, images.classes, target),
        trusted=measured,
    )


def see(engine: Engine, feed: Feed) -> Seen:
    """What the model sees in the images of `feed`, in float32, as the bundle will."""
    return Seen(*(torch.cat(parts) for parts in zip(*final_pass(engine, feed), strict=True)))
