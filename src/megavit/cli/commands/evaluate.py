"""`megavit evaluate`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from megavit.errors import ConfigError, OutputError


def evaluate(
    bundle: Annotated[Path, Parameter(help="Folder that megavit train or convert wrote, or hf-hub:USER/NAME.")],
    data: Annotated[
        str, Parameter(help="Folder of class folders, table of path and label(s) or score, shards, or demo:digits.")
    ],
    /,
    *,
    against: Annotated[
        Path | None, Parameter(help="Another bundle, to compare with on the same images, in pairs.")
    ] = None,
    output: Annotated[
        Path | None, Parameter(help="New .csv or .jsonl file: the images that the two bundles answer otherwise.")
    ] = None,
    group: Annotated[
        str | None, Parameter(help="Column of the table DATA: measure each of its values by itself.")
    ] = None,
    corruptions: Annotated[
        bool, Parameter(help="Also measure up to 1,000 images noisy, blurred, dark and so on.", negative="")
    ] = False,
    report: Annotated[Path | None, Parameter(help="New .html file with all figures and the worst mistakes.")] = None,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        str, Parameter(help="float32, bfloat16 (faster, 3 digits), or int8 after quantize.")
    ] = "float32",
    batch_size: Annotated[int, Parameter(help="Images at a time.")] = 64,
    keep_aspect: Annotated[
        bool, Parameter(help="Keep images' aspect, also where training did not.", negative="")
    ] = False,
    verify: Annotated[bool, Parameter(help="First check the bundle's golden answers.", negative="")] = False,
    json: Annotated[bool, Parameter(help="Print the result as JSON.", negative="")] = False,
) -> None:
    """Measure a bundle on labeled images, each figure with its 95% interval.

    Of data with splits the test images are taken. Images that the model was
    trained on, or chosen by, are known by their content and left out, and
    their number is told; with --against, those of either bundle.
    """
    from megavit.cli.console import counting, notes, print_json, show_notes, show_skipped
    from megavit.cli.render.comparison import check_changes, check_new, show_comparison, write_changes
    from megavit.cli.render.metrics import show_groups, show_metrics, show_robustness, show_trust
    from megavit.config.checks import check_range
    from megavit.config.recipe import DataRecipe
    from megavit.data.dataset import read_samples
    from megavit.data.load import read_data
    from megavit.evaluate.compare import check_comparable
    from megavit.evaluate.evaluation import evaluate
    from megavit.evaluate.inference import select_split
    from megavit.evaluate.subgroups import read_group_column
    from megavit.predict.predictor import load
    from megavit.weights.bundle.bundle import SAMPLES

    check_range("batch-size", batch_size, 1, 100_000)
    if output is not None and against is None:
        raise ConfigError("--output lists the images that two bundles answer otherwise: give the other with --against")
    check_changes(output)
    if report is not None and report.suffix != ".html":
        raise OutputError(f"the report is written as .html, not as {report.name!r}")
    check_new(report, "the report")
    if group is not None:
        read_group_column(data, group)
    bundles = [bundle] if against is None else [bundle, against]
    predictors = [
        load(one, device=device, precision=precision, verify=verify, keep_aspect=keep_aspect) for one in bundles
    ]
    predictor, other = predictors[0], None if against is None else predictors[1]
    if other is not None:
        check_comparable(predictor, other)
    with counting("checking images") as progress:
        images = read_data(data, DataRecipe(val=0, test=0), progress, known=predictor.labels)
    known = [row for one in predictors for row in read_samples(one.folder / SAMPLES)]
    choice = select_split(images, predictor.labels, known, predictor.target)
    found = evaluate(
        predictor,
        images,
        choice,
        other=other,
        group=group,
        corruptions=corruptions,
        batch_size=batch_size,
        counting=counting,
    )

    if json:
        answer = found.to_dict()
        if found.comparison is not None:
            answer["comparison"]["against"] = str(against)
        print_json(answer)
    else:
        show_notes(images.notes)
        show_skipped(images.skipped_by_reason())
        if choice.learned:
            which = "the model was" if other is None else "one of the models was"
            notes.print(f"{choice.learned:,} images left out: {which} trained or chosen by them", style="yellow")
        show_metrics(found.metrics)
        show_trust(found.trust)
        if found.comparison is not None:
            show_comparison(found.comparison, len(found.changed), str(bundle), str(against))
        if found.groups is not None:
            show_groups(found.groups)
        if found.robustness is not None:
            show_robustness(found.robustness)
    # Last, so that a full disk costs the files alone.
    if output is not None:
        write_changes(output, found.changed)
        notes.print(f"{len(found.changed):,} images in {output}")
    if report is not None:
        from megavit.evaluate.report.page import write_evaluation_report

        notes.print(f"report: {write_evaluation_report(report, found, str(bundle), str(against or ''), precision)}")
