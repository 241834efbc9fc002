"""The command `megavit evaluate`."""

from pathlib import Path

from megavit.cli.options import (
    BatchSize,
    Bundle,
    Device,
    ImageRoot,
    InferencePrecision,
    Json,
    KeepAspect,
    LabelColumn,
    LabeledData,
    PathColumn,
    Verify,
    name_columns,
)
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
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    image_root: ImageRoot = None,
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
        group_by: Column of DATA, if it is a table: also report the metrics of each of its values.
        corruptions: Also evaluate up to 1,000 images with the noise, blur and other corruptions of ImageNet-C.
        report: New .html file with all metrics and the worst errors.
    """
    from megavit.api import evaluate as api
    from megavit.cli.console import notes, print_json, show_notes, show_skipped
    from megavit.cli.render.comparison import show_comparison, write_disagreements
    from megavit.cli.render.metrics import show_metrics, show_robustness, show_subgroups, show_uncertainty
    from megavit.cli.writers.line_file import check_new_file

    if out is not None and against is None:
        raise ConfigError(
            "--out lists the images whose prediction differs between two bundles: pass the second one with --against"
        )
    if out is not None:
        check_new_file(out, "lists of images", (".csv", ".jsonl"))
    if report is not None:
        check_new_file(report, "reports", (".html",))
    evaluation = api.evaluate(
        bundle,
        name_columns(data, path_column, label_column, image_root),
        against=against,
        group_by=group_by,
        corruptions=corruptions,
        device=device,
        precision=precision,
        batch_size=batch_size,
        keep_aspect=keep_aspect,
        verify=verify,
        reporter="terminal",
    )
    if json:
        print_json(evaluation.to_dict())
    else:
        show_notes(evaluation.images.notes)
        show_skipped(evaluation.images.skipped_by_reason())
        excluded = evaluation.selection.excluded
        if excluded:
            which = "the model was" if against is None else "one of the models was"
            notes.print(f"{excluded:,} images left out: {which} trained or selected on them", style="yellow")
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
        notes.print(f"report: {evaluation.write_report(report)}")
