"""Make the index of a bundle's images, or of any others, and keep it up to date."""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from megavit.config.names import printable
from megavit.data.dataset import Sample, read_samples
from megavit.data.load import DataSource
from megavit.errors import DataError
from megavit.evaluation.inference import embed_samples
from megavit.predict.embedding_index import (
    EmbeddingIndex,
    IndexedImage,
    features_key,
    read_index,
    share_embeddings,
    write_index,
)
from megavit.predict.input_sources import iter_images
from megavit.predict.predictor import Predictor
from megavit.training.incremental.run_images import LocatedImages, locate_run_images
from megavit.training.progress import Reporter
from megavit.weights.bundle.bundle import SAMPLES


def default_index_path(predictor: Predictor, sources: Sequence[str] = ()) -> Path:
    """Return the path of the index of other images, or of the bundle's own without `sources`, beside the bundle."""
    folder, which = predictor.folder.resolve(), ""
    if sources:
        places = "\n".join(os.path.abspath(source) for source in sources)  # noqa: PTH100 - a glob or URL is no path
        which = f".{hashlib.sha256(places.encode(errors='surrogateescape')).hexdigest()[:8]}"
    return folder.with_name(f"{folder.name}{which}.index.safetensors")


class IndexBuilder:
    """A builder of the index in a file, which embeds only images that are not in it yet.

    Args:
        path: file of the index.
    """

    def __init__(self, predictor: Predictor, path: Path, reporter: Reporter) -> None:
        self.predictor, self.path, self.reporter = predictor, path, reporter
        self.model_key = features_key(predictor)
        self.stored = read_index(path)
        if self.stored is not None and self.stored.model_key != self.model_key:
            self.stored = None

    def from_run(self, data: DataSource | None) -> EmbeddingIndex:
        """Return the index of the images that the bundle lists: see `locate_run_images`.

        Nothing is read if all of them are in it.
        """
        listed = Counter(row.digest for row in read_samples(self.predictor.folder / SAMPLES))
        if self.stored is not None and listed and Counter(image.stamp for image in self.stored.images) == listed:
            return self.stored
        located = locate_run_images(self.predictor, data, self.reporter)
        known = self._known()
        missing = [[sample for sample in part.samples if sample.digest not in known] for part in located]
        total, done, shared = sum(map(len, missing)), 0, share_embeddings(self.predictor, self.reporter.say)
        for part, samples in zip(located, missing, strict=True):
            if samples:
                vectors = embed_samples(
                    self.predictor.engine,
                    part.images,
                    samples,
                    lambda count, _, done=done: self.reporter.progress("embedding images", done + count, total),
                    shared,
                )
                known |= zip((sample.digest for sample in samples), vectors, strict=True)
            done += len(samples)
        images = [image for part in located for image in _list_images(part)]
        return self._write(images, [known[image.stamp] for image in images])

    def from_files(self, sources: Sequence[str]) -> EmbeddingIndex:
        """Return the index of image files, folders, glob patterns and shards; what cannot be read is reported.

        Raises:
            DataError: if none of them can be read.
        """
        found = [(name, image, _stamp(image)) for name, image in iter_images(sources, sys.stdin.buffer)]
        known = {(image.name, image.stamp): vector for image, vector in self._stored_pairs()}
        missing = [(name, image) for name, image, stamp in found if (name, stamp) not in known]
        if self.stored is not None and not missing and len(found) == len(self.stored.images):
            return self.stored
        stamps = {name: stamp for name, _, stamp in found}
        failed: list[str] = []
        for count, result in enumerate(self.predictor.embed_stream(iter(missing)), start=1):
            if result.vector is None:
                failed.append(f"{printable(result.name)}: {result.error}")
            else:
                known[result.name, stamps[result.name]] = result.vector
            self.reporter.progress("embedding images", count, len(missing))
        if failed:
            self.reporter.say(f"{len(failed):,} files could not be read, such as {failed[0]}")
        images = [IndexedImage(name=name, stamp=stamp) for name, _, stamp in found if (name, stamp) in known]
        return self._write(images, [known[image.name, image.stamp] for image in images])

    def _known(self) -> dict[str, Tensor]:
        return {image.stamp: vector for image, vector in self._stored_pairs()}

    def _stored_pairs(self) -> Iterator[tuple[IndexedImage, Tensor]]:
        if self.stored is not None:
            yield from zip(self.stored.images, self.stored.vectors, strict=True)

    def _write(self, images: Sequence[IndexedImage], vectors: Sequence[Tensor]) -> EmbeddingIndex:
        if not images:
            raise DataError("there are no images to search in")
        index = EmbeddingIndex(tuple(images), torch.stack(list(vectors)), self.model_key)
        write_index(self.path, index)
        return index


def _stamp(image: object) -> str:
    """Return a text that changes with a file; "" for an image in a shard, or a file that is missing."""
    if not isinstance(image, Path):
        return ""
    try:
        status = image.stat()
    except OSError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


def _list_images(part: LocatedImages) -> Iterator[IndexedImage]:
    for sample, row in zip(part.samples, part.rows, strict=True):
        yield IndexedImage(name=_path(part, sample), label=row.target, split=row.split, stamp=sample.digest)


def _path(part: LocatedImages, sample: Sample) -> str:
    """Return the path of an image that has a file of its own, else its name."""
    root = part.images.root
    if root is None or sample.location is not None or sample.name in part.images.memory:
        return sample.name
    return (root / sample.name).absolute().as_posix()
