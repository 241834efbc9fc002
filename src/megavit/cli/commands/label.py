"""The command `megavit label`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from megavit.cli.options import Device, Json
from megavit.errors import ConfigError


def label(
    folder: Annotated[Path, Parameter(help="Folder of images, also in its subfolders.")],
    /,
    *,
    from_: Annotated[str, Parameter(name="--from")] = "auto",
    classes: str | None = None,
    multilabel: bool = False,
    correct: bool = False,
    port: int = 0,
    open_browser: bool = False,
    apply: Path | None = None,
    copy: bool = False,
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
        correct: Begin with the labels that FOLDER has, and with what megavit check doubts of them.
        port: Port to listen on; 0 picks a free one.
        open_browser: Open the page in the browser.
        apply: Make class folders of the labels in this new folder, by links, and serve no page.
        copy: With --apply: copy the images instead of linking to them.
    """
    from megavit.api import label as api

    if apply is not None:
        return _apply(folder, apply, copy, json)
    if copy:
        raise ConfigError("--copy says how --apply makes class folders: add --apply FOLDER")

    def on_ready(url: str) -> None:
        from json import dumps

        sys.stdout.write(f"{dumps({'url': url}) if json else f'label the images at {url}'}\n")
        sys.stdout.flush()
        if open_browser:
            import webbrowser

            webbrowser.open(url)

    names = [name for name in (classes or "").split(",") if name.strip()]
    api.label(
        folder,
        from_=from_,
        classes=names,
        multilabel=multilabel,
        correct=correct,
        port=port,
        device=device,
        on_ready=on_ready,
    )
    return 0


def _apply(folder: Path, out: Path, copy: bool, as_json: bool) -> int:
    """Make the class folders, and print what is in them; the exit code is 1 if images are missing."""
    from megavit.api.label import apply_labels
    from megavit.cli.console import notes, print_json, print_table, results
    from megavit.config.names import abbreviate

    made = apply_labels(folder, out, copy=copy)
    if as_json:
        print_json({"folder": str(made.folder), "images": made.counts, "missing": list(made.missing)})
    else:
        print_table("Class folders", ["class", "images"], [[name, f"{n:,}"] for name, n in made.counts.items()])
        results.print(f"written to {made.folder}", markup=False, highlight=False)
        if made.missing:
            notes.print(f"{len(made.missing):,} labeled images are gone: {abbreviate(made.missing, 3)}", markup=False)
    return 1 if made.missing else 0
