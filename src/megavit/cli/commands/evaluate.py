"""The command `megavit evaluate`."""

from pathlib import Path

from megavit.cli.options import BatchSize, Bundle, Device, InferencePrecision, Json, KeepAspect, LabeledData, Verify
from megavit.errors import ConfigError


def evaluate(
    bundle: Bundle,
    data: LabeledData,
    /,
    *,
    against: Path | None = None,
    out: Path | None = None,
    group_by: str | None = None,
    corruptions: bool = False,
    report: Path | None = None,
    device: Device = "auto",
    precision: InferencePrecision = "float32",
    batch_size: BatchSize = 64,
    keep_aspect: KeepAspect = False,
    verify: Verify = False,
    json: Json = False,
) -> None:
    """Evaluate a bundle on labeled images: every metric with its 95% confidence interval.

    If DATA has splits, the test split is used. Images that the model was
    trained or selected on are recognized by their content and left out, and
    their number is reported; with --against, those of either bundle.

    Args:
        against: Second bundle to compare with on the same images (paired statistics).
        out: New .csv or .jsonl file listing the images whose prediction differs between the two bundles.
        group_by: Column of the table DATA: also report the metrics of each of its values.
        corruptions: Also evaluate up to 1,000 images with the noise, blur and other corruptions of ImageNet-C.
        report: New .html file with all metrics and the worst errors.
    """
    from megavit.cli.console import counting, notes, print_json, show_notes, show_skipped
    from megavit.cli.render.comparison import show_comparison, write_disagreements
    from megavit.cli.render.metrics import show_metrics, show_robustness, show_subgroups, show_uncertainty
    from megavit.cli.writers.line_file import check_new_file
    from megavit.config.recipe import DataRecipe
    from megavit.data.dataset import read_samples
    from megavit.data.load import load_data
    from megavit.evaluation.compare import check_comparable
    from megavit.evaluation.evaluation import evaluate as run_evaluation
    from megavit.evaluation.inference import select_split
    from megavit.evaluation.subgroups import read_group_column
    from megavit.predict.predictor import load
    from megavit.weights.bundle.bundle import SAMPLES

    if out is not None and against is None:
        raise ConfigError(
            "--out lists the images whose prediction differs between two bundles: pass the second one with --against"
        )
    if out is not None:
        check_new_file(out, "lists of images", (".csv", ".jsonl"))
    if report is not None:
        check_new_file(report, "reports", (".html",))
    if group_by is not None:
        read_group_column(data, group_by)
    bundles = [bundle] if against is None else [bundle, against]
    predictors = [
        load(path, device=device, precision=precision, verify=verify, keep_aspect=keep_aspect) for path in bundles
    ]
    predictor, other = predictors[0], None if against is None else predictors[1]
    if other is not None:
        check_comparable(predictor, other)
    with counting("checking images") as progress:
        images = load_data(data, DataRecipe(val=0, test=0), progress, known_classes=predictor.labels)
    known = [row for loaded in predictors for row in read_samples(loaded.folder / SAMPLES)]
    selection = select_split(images, predictor.labels, known, predictor.target)
    evaluation = run_evaluation(
        predictor,
        images,
        selection,
        other=other,
        group_by=group_by,
        corruptions=corruptions,
        batch_size=batch_size,
        make_progress=counting,
    )

    if json:
        report_json = evaluation.to_dict()
        if evaluation.comparison is not None:
            report_json["comparison"]["against"] = str(against)
        print_json(report_json)
    else:
        show_notes(images.notes)
        show_skipped(images.skipped_by_reason())
        if selection.excluded:
            which = "the model was" if other is None else "one of the models was"
            notes.print(f"{selection.excluded:,} images left out: {which} trained or selected on them", style="yellow")
        show_metrics(evaluation.metrics)
        show_uncertainty(evaluation.uncertainty)
        if evaluation.comparison is not None:
            show_comparison(evaluation.comparison, len(evaluation.disagreements), str(bundle), str(against))
        if evaluation.subgroups is not None:
            show_subgroups(evaluation.subgroups)
        if evaluation.robustness is not None:
            show_robustness(evaluation.robustness)
    # Last, so that a full disk costs only the files.
    if out is not None:
        write_disagreements(out, evaluation.disagreements)
        notes.print(f"{len(evaluation.disagreements):,} images in {out}")
    if report is not None:
        from megavit.evaluation.report.page import write_evaluation_report

        notes.print(
            f"report: {write_evaluation_report(report, evaluation, str(bundle), str(against or ''), precision)}"
        )
