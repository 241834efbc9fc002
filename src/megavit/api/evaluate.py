"""Evaluate a bundle on labeled images from Python."""

import os
from dataclasses import replace

from megavit.api.held_out import read_held_out
from megavit.api.reporters.choose import ReporterChoice, open_reporter
from megavit.config.checks import check_integer
from megavit.data.group_column import read_group_column
from megavit.data.load import DataSource
from megavit.evaluation.compare import check_comparable
from megavit.evaluation.evaluation import Evaluation
from megavit.evaluation.evaluation import evaluate as evaluate_predictor
from megavit.predict.predictor import load


def evaluate(
    bundle: str | os.PathLike[str],
    data: DataSource,
    *,
    against: str | os.PathLike[str] | None = None,
    group_by: str | None = None,
    corruptions: bool = False,
    device: str = "auto",
    precision: str = "float32",
    batch_size: int = 64,
    keep_aspect: bool = False,
    verify: bool = False,
    reporter: ReporterChoice = "auto",
) -> Evaluation:
    """Evaluate a bundle on labeled images, and return every metric with its 95% confidence interval.

    If the data has splits, the test split is used. Images that the model was trained or selected on are recognized by
    their content and left out; with `against`, those of either bundle.

    Args:
        bundle: bundle or `Run`, as for `megavit.load`.
        data: labeled images, as for `megavit.train`.
        against: second bundle to compare with on the same images, by paired statistics.
        group_by: column of `data`, if that has columns, whose values get metrics of their own.
        corruptions: whether to evaluate up to 1,000 images with the noise, blur and other corruptions of ImageNet-C.
        device, precision, keep_aspect, verify: as for `megavit.load`.
        batch_size: images per batch.
        reporter: as for `megavit.train`.

    Raises:
        BundleError, ConfigError, DataError: if bundle, settings and images cannot be used, or not together.
    """
    check_integer("batch_size", batch_size, minimum=1)
    groups = None if group_by is None else read_group_column(data, group_by)
    predictors = [
        load(path, device=device, precision=precision, verify=verify, keep_aspect=keep_aspect)
        for path in (bundle, against)
        if path is not None
    ]
    predictor, other = predictors[0], None if against is None else predictors[1]
    if other is not None:
        check_comparable(predictor, other)
    with open_reporter(reporter) as shown:
        images, selection = read_held_out(predictors, data, shown)
        evaluation = evaluate_predictor(
            predictor,
            images,
            selection,
            other=other,
            group_by=groups,
            corruptions=corruptions,
            batch_size=batch_size,
            progress=shown.progress,
        )
    names = (os.fspath(bundle), "" if against is None else os.fspath(against))
    return replace(evaluation, bundle=names[0], against=names[1], precision=precision)
