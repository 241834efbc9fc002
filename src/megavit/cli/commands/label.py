"""The command `megavit label`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from megavit.cli.options import Device, Json


def label(
    folder: Annotated[Path, Parameter(help="Folder of images, also in its subfolders.")],
    /,
    *,
    from_: Annotated[str, Parameter(name="--from")] = "auto",
    classes: str | None = None,
    multilabel: bool = False,
    port: int = 0,
    open_browser: bool = False,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Label a folder of images on a page in the browser.

    Each stroke is appended to labels.csv in FOLDER and is on the disk before
    the page goes on; megavit train FOLDER reads the labels from there. No
    file is moved. The page can be reached from this machine only, by the
    address that is printed. Ctrl-C stops.

    For example: megavit label photos --classes cat,dog

    Args:
        from_: Model to learn with: auto for a backbone on this machine, scratch for none, or as for megavit train.
        classes: Classes, separated by commas, in the order of their keys 1 to 9 and 0; others are added on the page.
        multilabel: Let an image have any number of labels, instead of one class.
        port: Port to listen on; 0 picks a free one.
        open_browser: Open the page in the browser.
    """
    from megavit.api import label as api

    def on_ready(url: str) -> None:
        from json import dumps

        sys.stdout.write(f"{dumps({'url': url}) if json else f'label the images at {url}'}\n")
        sys.stdout.flush()
        if open_browser:
            import webbrowser

            webbrowser.open(url)

    names = [name for name in (classes or "").split(",") if name.strip()]
    api.label(folder, from_=from_, classes=names, multilabel=multilabel, port=port, device=device, on_ready=on_ready)
    return 0
