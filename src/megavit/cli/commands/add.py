"""The command `megavit add`."""

from pathlib import Path

from megavit.cli.options import Bundle, Device, Json, RunData


def add(
    bundle: Bundle,
    folders: list[Path],
    /,
    *,
    out: Path,
    data: RunData = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Add classes, or more images of known ones, to a trained bundle in seconds.

    Features and the weights of the other classes stay as they are: the head
    gets a row for each new class. Calibration, prediction sets and
    out-of-distribution mark are fitted anew, and accuracy is measured anew, on
    the bundle's own images and new ones that are held out. The exit code is 1
    if a class cannot be told from the others in this way: train with all
    images then.

    Args:
        folders: A folder of images for each class, which is named after it.
        out: New folder for the bundle, or that of the bundle itself to replace it.
    """
    from megavit.api import classes as api
    from megavit.cli.console import print_json
    from megavit.cli.render.classes import show_addition

    added = api.add_classes(bundle, folders, out=out, data=data, device=device, reporter="terminal")
    if json:
        print_json(added.to_dict())
    else:
        show_addition(added)
    return 1 if added.needs_training else 0
