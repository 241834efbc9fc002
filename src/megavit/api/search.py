"""Search images by what a trained model sees in them, from Python."""

import os
from collections.abc import Sequence
from pathlib import Path

from megavit.api.reporters.choose import ReporterChoice, open_reporter
from megavit.data.load import DataSource
from megavit.errors import ConfigError
from megavit.predict.predictor import load
from megavit.search.build import IndexBuilder, default_index_path
from megavit.search.search import ImageSearch


def index_images(
    bundle: str | os.PathLike[str],
    among: Sequence[str | os.PathLike[str]] | None = None,
    *,
    data: DataSource | None = None,
    index: str | os.PathLike[str] | None = None,
    device: str = "auto",
    reporter: ReporterChoice = "auto",
) -> ImageSearch:
    """Return a search in many images by the embeddings of a bundle, which are computed once and kept in a file.

    Args:
        bundle: bundle or `Run`, as for `megavit.load`.
        among: image files, folders, glob patterns or shards to search in; None for the images that the bundle was
            trained and tested on.
        data: where these are, as for `megavit.train`; None to find them where they were.
        index: file of the embeddings; None for one beside the bundle. Only images that are not in it are embedded.
        device: as for `megavit.load`.
        reporter: as for `megavit.train`.

    Raises:
        BundleError: if the bundle does not say where its images are, or the file is not an index.
        ConfigError, DataError: if no image can be read.
        OutputError: if the index cannot be written.
    """
    if among is not None and data is not None:
        raise ConfigError("--data says where the bundle's own images are, and --among names others: leave out one")
    predictor = load(bundle, device=device)
    sources = [os.fspath(source) for source in among or ()]
    path = default_index_path(predictor, sources) if index is None else Path(index)
    with open_reporter(reporter) as shown:
        builder = IndexBuilder(predictor, path, shown)
        return ImageSearch(predictor, builder.from_files(sources) if among is not None else builder.from_run(data))
