"""Label images in a browser, from Python."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from megavit.api.settings import default_out
from megavit.config.recipe import AUTO
from megavit.errors import ConfigError
from megavit.labeling.class_folders import ClassFolders, make_class_folders
from megavit.labeling.existing import import_labels
from megavit.labeling.images import ImageList, list_images
from megavit.labeling.learning.features import Features, load_features
from megavit.labeling.server import serve_page
from megavit.labeling.session import LabelingSession
from megavit.runtime.device import pick_device
from megavit.training.progress import NullReporter


def label(
    folder: str | os.PathLike[str],
    *,
    from_: str | os.PathLike[str] = AUTO,
    classes: Sequence[str] = (),
    multilabel: bool = False,
    correct: bool = False,
    port: int = 0,
    device: str = "auto",
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a page on which the images of a folder are labeled, until Ctrl-C or SIGTERM.

    The labels are appended to labels.csv in the folder, which `megavit.train(folder)` reads. No file is moved.

    Args:
        folder: folder with the images, also in its subfolders.
        from_: model whose embeddings are learned from: a backbone's name, a bundle or `Run`, or other weights as for
            `megavit.train`; "auto" for a backbone on this machine if the images are photographs; or "scratch" for the
            colors and edges of the thumbnails, as where there is none.
        classes: names of the classes, in the order of their keys; others can be added on the page.
        multilabel: whether an image may have any number of labels, instead of one class.
        correct: whether to begin with the labels that the folder has, as class folders or a table, which are copied to
            labels.csv, and with what `check` doubts of them.
        port: port to listen on, which can be reached from this machine only; 0 picks a free one.
        device: as for `megavit.load`.
        on_ready: called with the address of the page, whose token lets in only those who know it.

    Raises:
        ConfigError: if options contradict each other, a class cannot be used, or the server cannot listen on the port.
        DataError: if there are no images, or labels.csv is damaged or of another kind.
    """
    images, chosen = list_images(Path(folder)), pick_device(device)
    if correct and multilabel:
        raise ConfigError("--correct takes the kind of the labels that there are: leave out --multilabel")

    # What the user has named is refused before the page opens.
    named = None if os.fspath(from_) == AUTO else load_features(from_, images, (), chosen, NullReporter())

    def load(images: ImageList, order: Sequence[int]) -> Features:
        return named or load_features(AUTO, images, order, chosen, NullReporter())

    target = import_labels(Path(folder)) if correct else "multilabel" if multilabel else "classification"
    session = LabelingSession(images, load, classes, target, lambda: default_out(os.fspath(folder)))

    # Learning begins once the page is made: both change the filters of warnings, which threads share.
    def start(url: str) -> None:
        session.start()
        if correct:
            session.check.start()
        if on_ready is not None:
            on_ready(url)

    try:
        serve_page(session, port, start)
    finally:
        session.stop()


def apply_labels(folder: str | os.PathLike[str], out: str | os.PathLike[str], *, copy: bool = False) -> ClassFolders:
    """Make a folder with a subfolder for each class, which links to the labeled images or has copies of them.

    `megavit.train` needs none: it reads labels.csv as it is.

    Args:
        folder: folder with images and labels.csv, as `label` wrote it.
        out: new folder outside it.
        copy: whether to copy the images, instead of linking to them.

    Raises:
        ConfigError: if images may have several labels.
        DataError: if nothing is labeled, labels.csv is damaged, or a class cannot be the name of a folder.
        OutputError: if `out` is not empty, is within `folder`, or cannot be written.
    """
    return make_class_folders(Path(folder), Path(out), copy=copy)
