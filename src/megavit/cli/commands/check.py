"""The command `megavit check`."""

from pathlib import Path

from megavit.cli.options import Device, ImageRoot, Json, LabelColumn, LabeledData, PathColumn, name_columns


def check(
    data: LabeledData,
    /,
    *,
    out: Path | None = None,
    bundle: Path | None = None,
    minutes: float | None = None,
    skip_labels: bool = False,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    image_root: ImageRoot = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Check a data set for broken files, duplicates, label errors and more.

    Finds files that cannot be read, exact and near duplicates (most serious
    between train and test), likely label errors, blank images, classes with
    few images, and more, the most serious first. Label errors are found with
    a backbone if the images are photographs (see megavit backbones), else
    with models trained on the other images. The exit code is 1 if anything
    serious was found.

    For example: megavit check photos --out checked

    Args:
        out: New folder for check.csv and an HTML page with the images.
        bundle: Find label errors with the features of this bundle or hf-hub:USER/NAME, without training.
        minutes: Time budget in minutes to train models that find label errors. Default: 3, if there is no backbone.
        skip_labels: Do not look for label errors.
    """
    from megavit.api import check as api
    from megavit.cli.console import results
    from megavit.cli.render.findings import print_check, show_check
    from megavit.data_check.report import PAGE, TABLE

    result = api.check(
        name_columns(data, path_column, label_column, image_root),
        out=out,
        bundle=bundle,
        minutes=minutes,
        skip_labels=skip_labels,
        device=device,
        reporter="terminal",
    )
    if json:
        print_check(result, out)
    else:
        show_check(result)
        if out is not None:
            results.print(f"{out / PAGE} shows the images; {out / TABLE} lists all findings")
    return 1 if result.is_serious else 0
