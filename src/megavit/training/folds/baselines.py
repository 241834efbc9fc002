"""Compare the models of all folds with the simple baselines of their folds, on all images together."""

from collections.abc import Sequence
from statistics import fmean
from typing import cast

import torch
from torch.nn import functional as F

from megavit.config.target import Target
from megavit.evaluation.compare import Comparison, PairedOutputs, compare_outputs
from megavit.evaluation.probes.baselines import Method
from megavit.training.folds.plan import BaselineCounts, FoldRecord
from megavit.training.report.baselines import BaselineResult, BaselineSummary


def record_baselines(summary: BaselineSummary | None) -> FoldRecord:
    """Return what is recorded of a fold's baselines."""
    if summary is None:
        return FoldRecord()
    return FoldRecord(
        baselines=[
            BaselineCounts(
                method=result.method,
                setting=result.setting,
                only_model=result.comparison.only_a or 0,
                only_baseline=result.comparison.only_b or 0,
                both=result.comparison.both or 0,
                neither=result.comparison.neither or 0,
            )
            for result in summary.results
        ],
        baseline_images=summary.images,
        baseline_available=summary.available,
        baseline_seconds=summary.seconds,
    )


def pool_baselines(records: Sequence[FoldRecord], accuracy: float, *, is_pretrained: bool) -> BaselineSummary | None:
    """Return the baselines that were compared in every fold, on all images; None if there are none."""
    methods = [[counts.method for counts in record.baselines] for record in records]
    common = [method for method in methods[0] if all(method in others for others in methods)]
    if not common:
        return None
    results = []
    for method in common:
        found = [counts for record in records for counts in record.baselines if counts.method == method]
        comparison = _compare(found)
        settings = list(dict.fromkeys(counts.setting for counts in found))
        results.append(
            BaselineResult(
                cast(Method, method),
                settings[0] if len(settings) == 1 else f"by fold: {'; '.join(settings)}",
                comparison.differences[0].b,
                comparison,
            )
        )
    return BaselineSummary(
        accuracy=accuracy,
        results=tuple(results),
        images=round(fmean(record.baseline_images for record in records)),
        available=round(fmean(record.baseline_available for record in records)),
        seconds=sum(record.baseline_seconds for record in records),
        is_pretrained=is_pretrained,
    )


def _compare(found: Sequence[BaselineCounts]) -> Comparison:
    """Return the comparison of the model (A) with a baseline (B) by the numbers of images that each is right on."""
    cells = [(counts.only_model, counts.only_baseline, counts.both, counts.neither) for counts in found]
    sizes = torch.tensor(cells).sum(dim=0)
    is_right = [torch.tensor(right).repeat_interleave(sizes) for right in ([1, 0, 1, 0], [0, 1, 1, 0])]
    model, baseline = (F.one_hot(right, 2).float() for right in is_right)
    return compare_outputs(PairedOutputs(model, baseline, torch.ones_like(is_right[0]), Target(), Target()))
