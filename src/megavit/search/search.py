"""Find the images of an index that are most similar to others, and those that are copies of them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.data.image_dataset import preprocess
from megavit.data_check.near_duplicates import (
    MAX_ERROR_SHARE,
    MIN_TYPICAL_ERROR,
    REFERENCE_RANKS,
    CandidatePairs,
    registration_errors,
)
from megavit.data_check.thumbnails import SIDE
from megavit.errors import ConfigError, ImageError
from megavit.predict.embedding_index import EmbeddingIndex, IndexedImage
from megavit.predict.predictor import Image, Predictor, read_image
from megavit.weights.text_tower.load import TextEncoder

MAX_COMPARED = 20
"""Number of the nearest images that are compared with the query pixel by pixel."""
_THUMBNAIL = Preprocessing(height=SIDE, width=SIDE, channels=1)


@dataclass(frozen=True)
class Match:
    """An image that was found.

    Attributes:
        similarity: cosine similarity of the embeddings, in [-1, 1].
        is_near_copy: whether it is the same image, perhaps saved again, resized, slightly cropped, brightened or
            mirrored; None if it was not compared, as its file cannot be read or others are more similar.
    """

    image: IndexedImage
    similarity: float
    is_near_copy: bool | None

    def to_dict(self) -> dict[str, Any]:
        """Return the match as plain JSON types."""
        known = {"label": self.image.label, "split": self.image.split} if self.image.split else {}
        return {"path": self.image.name, **known, "similarity": self.similarity, "near_copy": self.is_near_copy}


@dataclass(frozen=True)
class SearchResult:
    """The images found for one image, the most similar first, or the reason why it could not be read."""

    name: str
    matches: tuple[Match, ...]
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON types."""
        if self.error is not None:
            return {"path": self.name, "error": self.error}
        return {"path": self.name, "matches": [match.to_dict() for match in self.matches]}


@dataclass(frozen=True)
class ImageSearch:
    """A search in the images of an index, with the predictor whose embeddings they are.

    Attributes:
        text_encoder: the text tower of the predictor's model, to search by text; None if it has none.
    """

    predictor: Predictor
    index: EmbeddingIndex
    text_encoder: TextEncoder | None = None

    def find(self, image: Image, top: int = 10) -> tuple[Match, ...]:
        """Return the `top` images that are most similar to an image, which is not found for itself.

        Args:
            image: path or any other image that `megavit.Predictor.predict` takes.

        Raises:
            ImageError: if the image cannot be read.
        """
        count = max(top, max(REFERENCE_RANKS)) + 1
        indices, cosines = (row[0] for row in self.index.nearest(self.predictor.embed(image)[None], count))
        own = _absolute(image) if isinstance(image, str | os.PathLike) else None
        found = [
            (self.index.images[index], cosine)
            for index, cosine in zip(indices.tolist(), cosines.tolist(), strict=True)
            if own is None or _absolute(self.index.images[index].name) != own
        ]
        copies = _find_copies(image, [one for one, _ in found])
        return tuple(Match(one, min(1.0, cosine), copies.get(rank)) for rank, (one, cosine) in enumerate(found[:top]))

    def find_text(self, text: str, top: int = 10) -> tuple[Match, ...]:
        """Return the `top` images that fit a text best, by the cosine of their embeddings.

        Raises:
            ConfigError: if the model has no text tower, or there is no word in the text.
        """
        if self.text_encoder is None:
            raise ConfigError("this model has no text tower: only images can be searched by")
        indices, cosines = self._by_text.nearest(self.text_encoder.encode([text]), top)
        return tuple(
            Match(self.index.images[index], cosine, None)
            for index, cosine in zip(indices[0].tolist(), cosines[0].tolist(), strict=True)
        )

    @cached_property
    def _by_text(self) -> EmbeddingIndex:
        """The index with the embeddings that are compared with those of texts."""
        head = self.predictor.model.mlp_head
        with torch.no_grad():
            vectors = head(self.index.vectors.to(next(self.predictor.model.parameters()).device)).cpu()
        return replace(self.index, vectors=vectors)

    def stream(self, images: Iterable[tuple[str, Image]], top: int = 10) -> Iterator[SearchResult]:
        """Yield the result for each (name, image), in order; one that cannot be read gets a result with the reason."""
        for name, image in images:
            try:
                yield SearchResult(name, self.find(image, top))
            except ImageError as error:
                yield SearchResult(name, (), error.reason)

    def write_report(self, path: str | os.PathLike[str], results: Sequence[SearchResult] = ()) -> Path:
        """Write an HTML page with results, and with the hardest, the strangest and groups of the images searched.

        Raises:
            OutputError: if the page cannot be written.
        """
        from megavit.search.report import write_search_report

        return write_search_report(Path(path), self, results)


def _absolute(path: str | os.PathLike[str]) -> str:
    return Path(path).absolute().as_posix()


def _find_copies(query: Image, ranked: list[IndexedImage]) -> dict[int, bool]:
    """Return by rank whether images are copies of the query, up to `MAX_COMPARED` of those that can be read.

    As in `megavit.data_check.near_duplicates`, the error allowed is relative to that of less similar images.
    """
    compared = [rank for rank in (*range(MAX_COMPARED), *REFERENCE_RANKS) if rank < len(ranked)]
    pictures = {rank: gray for rank in compared if (gray := _read_gray(Path(ranked[rank].name))) is not None}
    own = _read_gray(query)
    if own is None or not pictures:
        return {}
    gray = torch.stack([own, *pictures.values()])
    pairs = torch.stack([torch.zeros(len(pictures), dtype=torch.int64), torch.arange(1, len(gray))], dim=1)
    errors = torch.stack(
        [
            registration_errors(gray, CandidatePairs(pairs, torch.full((len(pairs),), mirrored)))
            for mirrored in (False, True)
        ]
    ).amin(dim=0)
    by_rank = dict(zip(pictures, errors.tolist(), strict=True))
    typical = min((by_rank[rank] for rank in REFERENCE_RANKS if rank in by_rank), default=1.0)
    limit = MAX_ERROR_SHARE * min(1.0, max(MIN_TYPICAL_ERROR, typical))
    return {rank: error**2 <= limit for rank, error in by_rank.items() if rank < MAX_COMPARED}


def _read_gray(image: Image) -> Tensor | None:
    """Return a thumbnail (SIDE, SIDE); None for an image that cannot be read, has other channels, or is blank."""
    try:
        pixels, _ = read_image(image, _THUMBNAIL.decode_size)
        gray = preprocess(pixels, (SIDE, SIDE), _THUMBNAIL)[0]
    except ImageError:
        return None
    return gray if gray.min() < gray.max() else None
