"""Makes a bundle's answers trustworthy for a person's own images, such as those of one that was converted."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from megavit.config.target import Target
from megavit.config.trust import Trust
from megavit.data.samples import LabelledImages
from megavit.data.scan import Progress
from megavit.data.targets import targets_of
from megavit.engine.engine import Seen
from megavit.errors import DataError
from megavit.evaluate.dataset import Choice, see
from megavit.evaluate.labels import best_thresholds
from megavit.evaluate.trust import TrustMetrics, fit_trust, measure_trust
from megavit.predict.predictor import Predictor
from megavit.predict.trusted import Trusted
from megavit.runtime.seeds import generator

# Images to compare new ones with, to fit on, and to measure on.
SHARES = (0.3, 0.4, 0.3)
LEAST = 60
BATCH = 64


@dataclass(frozen=True)
class Calibrated:
    """What was fitted, and what came of it on images that nothing was fitted on; `target` has the new thresholds."""

    target: Target
    trust: Trust
    tensors: dict[str, Tensor]
    metrics: TrustMetrics


def calibrate(predictor: Predictor, images: LabelledImages, choice: Choice, progress: Progress) -> Calibrated:
    """Fit the trust of a bundle anew.

    Args:
        choice: images that the model has not learnt from. Three tenths of them are what new images are compared with,
            four tenths are fitted on, and the rest measured.

    Raises:
        DataError: for fewer than `LEAST` images, and as `megavit.evaluate.dataset.evaluate`.
    """
    if len(choice.samples) < LEAST:
        raise DataError(
            f"{len(choice.samples)} images of {images.source} are too few to calibrate on: give {LEAST} or more that "
            "the model has not learnt from"
        )
    targets = targets_of(choice.samples, predictor.target, len(predictor.labels))
    seen = see(predictor, images, choice.samples, BATCH, progress)
    order = torch.randperm(len(targets), generator=generator(0))
    first, second = (round(len(order) * share) for share in (SHARES[0], SHARES[0] + SHARES[1]))
    known, held, rest = order.tensor_split([first, second])
    target = predictor.info.target
    trust, tensors = fit_trust(_part(seen, held), targets[held], target, (seen.pooled[known], targets[known]))
    trusted = Trusted(trust, tensors, target, len(predictor.labels))
    if target.kind == "labels":
        answers = trusted.answers(seen.logits[held])
        target = replace(target, thresholds=best_thresholds(answers, targets[held]))
    metrics = measure_trust(trusted, _part(seen, rest), targets[rest])
    return Calibrated(target, replace(trust, measured=metrics.to_dict()), tensors, metrics)


def _part(seen: Seen, places: Tensor) -> Seen:
    return Seen(seen.pooled[places], seen.logits[places])
