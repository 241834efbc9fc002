"""Search images by what a trained model sees in them, from Python."""

import os
from collections.abc import Sequence
from pathlib import Path

from megavit.api.reporters.choose import ReporterChoice, open_reporter
from megavit.data.load import DataSource
from megavit.errors import ConfigError
from megavit.predict.predictor import Predictor, load
from megavit.runtime.device import pick_device
from megavit.search.build import IndexBuilder, default_index_path
from megavit.search.search import ImageSearch
from megavit.weights.pretrained.pretrained import load_pretrained
from megavit.weights.pretrained.to_bundle import make_bundle
from megavit.weights.text_tower.load import load_text_encoder


def index_images(
    bundle: str | os.PathLike[str],
    among: Sequence[str | os.PathLike[str]] | None = None,
    *,
    data: DataSource | None = None,
    index: str | os.PathLike[str] | None = None,
    by_text: bool = False,
    device: str = "auto",
    reporter: ReporterChoice = "auto",
) -> ImageSearch:
    """Return a search in many images by the embeddings of a bundle, which are computed once and kept in a file.

    Args:
        bundle: bundle or `Run`, as for `megavit.load`; with `by_text`, the folder of a CLIP or SigLIP model with both
            towers, in the layout of Hugging Face's transformers.
        among: image files, folders, glob patterns or shards to search in; None for the images that the bundle was
            trained and tested on.
        data: where these are, as for `megavit.train`; None to find them where they were.
        index: file of the embeddings; None for one beside the bundle. Only images that are not in it are embedded.
        by_text: whether images are to be found by texts, with `ImageSearch.find_text`.
        device: as for `megavit.load`.
        reporter: as for `megavit.train`.

    Raises:
        BundleError: if the bundle does not say where its images are, or the file is not an index.
        ConfigError, DataError: if no image can be read.
        OutputError: if the index cannot be written.
    """
    if among is not None and data is not None:
        raise ConfigError("--data says where the bundle's own images are, and --among names others: leave out one")
    if by_text and among is None:
        raise ConfigError("a model with a text tower has no images of its own: say with --among where to search")
    encoder = load_text_encoder(Path(bundle)) if by_text else None
    predictor = load(bundle, device=device) if encoder is None else _load_two_towers(encoder.folder, device)
    sources = [os.fspath(source) for source in among or ()]
    path = default_index_path(predictor, sources) if index is None else Path(index)
    with open_reporter(reporter) as shown:
        builder = IndexBuilder(predictor, path, shown)
        found = builder.from_files(sources) if among is not None else builder.from_run(data)
    return ImageSearch(predictor, found, encoder)


def _load_two_towers(folder: Path, device: str) -> Predictor:
    return Predictor(make_bundle(load_pretrained(str(folder)), folder), pick_device(device))
