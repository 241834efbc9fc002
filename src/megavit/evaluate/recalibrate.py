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
from megavit.evaluate.measure import AnyMetrics, measure_target
from megavit.evaluate.trust import TrustMetrics, fit_trust, measure_trust
from megavit.predict.predictor import Predictor
from megavit.predict.trusted import Trusted
from megavit.runtime.seeds import generator
from megavit.weights.bundle import BundleInfo

# Images to compare new ones with, to fit on, and to measure on.
SHARES = (0.3, 0.4, 0.3)
LEAST = 60
BATCH = 64


@dataclass(frozen=True)
class Calibrated:
    """What was fitted, and what came of it on images that nothing was fitted on.

    Attributes:
        source: of the images.
        target: with the new thresholds.
        trust, tensors: what was fitted.
        metrics: of the calibration, on the images that nothing was fitted on.
        test: of the answers, on the same.
    """

    source: str
    target: Target
    trust: Trust
    tensors: dict[str, Tensor]
    metrics: TrustMetrics
    test: AnyMetrics


def calibrate(
    predictor: Predictor,
    images: LabelledImages,
    choice: Choice,
    progress: Progress,
    *,
    temperature_only: bool = False,
) -> Calibrated:
    """Fit the trust of a bundle anew.

    Args:
        temperature_only: calibrate by a temperature alone, which a linear head can hold.
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
    learnt = (seen.pooled[known], targets[known])
    trust, tensors = fit_trust(_part(seen, held), targets[held], target, learnt, temperature_only=temperature_only)
    trusted = Trusted(trust, tensors, target, len(predictor.labels))
    if target.kind == "labels":
        answers = trusted.answers(seen.logits[held])
        target = replace(target, thresholds=best_thresholds(answers, targets[held]))
    metrics = measure_trust(trusted, _part(seen, rest), targets[rest])
    test = measure_target(trusted.answers(seen.logits[rest]), targets[rest], predictor.labels, target)
    trust = replace(trust, measured=metrics.to_dict())
    return Calibrated(images.source, target, trust, tensors, metrics, test)


def with_calibration(info: BundleInfo, found: Calibrated) -> BundleInfo:
    """Return what a bundle says of itself once it is calibrated: its figures are of the new answers alone."""
    told = {"source": found.source, "fitted": found.trust.images, "measured": found.test.images}
    return replace(
        info,
        target=found.target,
        trust=found.trust,
        metrics=found.test.to_dict(),
        data=info.data | {"calibrated": told},
    )


def _part(seen: Seen, places: Tensor) -> Seen:
    return Seen(seen.pooled[places], seen.logits[places])
