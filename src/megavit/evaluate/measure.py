"""The metrics of each kind of target, by one name."""

from collections.abc import Sequence

from torch import Tensor

from megavit.config.target import Target
from megavit.evaluate.labels import LabelsMetrics, measure_labels
from megavit.evaluate.metrics import Metrics, measure
from megavit.evaluate.scores import ScoreMetrics, measure_scores

AnyMetrics = Metrics | LabelsMetrics | ScoreMetrics


def measure_target(answers: Tensor, targets: Tensor, names: Sequence[str], target: Target) -> AnyMetrics:
    """Compare answers with the truth.

    Args:
        answers: as `megavit.predict.outputs.outputs` gives them.
        targets: as `megavit.data.targets.targets_of` gives them.
        names: of the classes or labels.
        target: of both.

    Raises:
        DataError: there are no images.
    """
    match target.kind:
        case "classes":
            return measure(answers, targets, names)
        case "labels":
            return measure_labels(answers, targets, names, target.thresholds)
        case "score":
            if target.median is None:  # nor is the mean known of a model that another library has trained
                return measure_scores(answers, targets)
            return measure_scores(answers, targets, mean=target.mean, median=target.median)
