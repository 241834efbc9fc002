"""The command `megavit remove`."""

from pathlib import Path

from megavit.cli.options import Bundle, Device, Json, RunData


def remove(
    bundle: Bundle,
    names: list[str],
    /,
    *,
    out: Path,
    data: RunData = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Remove classes from a trained bundle.

    The weights of the others stay as they are. Calibration and accuracy are
    renewed as by megavit add.

    Args:
        names: Names of the classes to remove.
        out: New folder for the bundle, or that of the bundle itself to replace it.
    """
    from megavit.api import classes as api
    from megavit.cli.console import print_json, results
    from megavit.cli.render.metrics import show_metrics, show_uncertainty

    removed = api.remove_classes(bundle, names, out=out, data=data, device=device, reporter="terminal")
    if json:
        print_json(removed.to_dict())
        return
    show_metrics(removed.metrics)
    show_uncertainty(removed.uncertainty)
    results.print(f"bundle: {removed.folder}")
