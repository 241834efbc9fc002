"""Label images in a browser, from Python."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from megavit.labeling.images import list_images
from megavit.labeling.server import serve_page
from megavit.labeling.session import LabelingSession


def label(
    folder: str | os.PathLike[str],
    *,
    classes: Sequence[str] = (),
    multilabel: bool = False,
    port: int = 0,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a page on which the images of a folder are labeled, until Ctrl-C or SIGTERM.

    The labels are appended to labels.csv in the folder, which `megavit.train(folder)` reads. No file is moved.

    Args:
        folder: folder with the images, also in its subfolders.
        classes: names of the classes, in the order of their keys; others can be added on the page.
        multilabel: whether an image may have any number of labels, instead of one class.
        port: port to listen on, which can be reached from this machine only; 0 picks a free one.
        on_ready: called with the address of the page, whose token lets in only those who know it.

    Raises:
        ConfigError: if a class cannot be used, or the server cannot listen on the port.
        DataError: if there are no images, or labels.csv is damaged or of another kind.
    """
    images = list_images(Path(folder))
    session = LabelingSession(images, classes, "multilabel" if multilabel else "classification")
    serve_page(session, port, on_ready or (lambda _: None))
