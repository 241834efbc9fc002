"""Write a page with the images that were found, and with an overview of those that were searched."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from megavit.data_check.report import SIDE, SMALL_SIDE, encode_image
from megavit.errors import ImageError
from megavit.evaluation.report.html import percent, render_page, write_report_file
from megavit.predict.predictor import read_image
from megavit.search.overview import find_clusters, find_hardest, find_strangest

if TYPE_CHECKING:
    from megavit.search.search import ImageSearch, Match, SearchResult

SHOWN, PER_CLUSTER = 24, 8
"""Number of the hardest and of the strangest images, and number of images of a group."""


@dataclass(frozen=True)
class Card:
    """An image on the page; `uri` is empty if it cannot be shown."""

    name: str
    uri: str
    text: str


@dataclass(frozen=True)
class Group:
    """Images below a title, which may be empty."""

    title: str
    cards: list[Card]


@dataclass(frozen=True)
class Section:
    """A section of the page: an anchor, a title, a note, and groups of images."""

    key: str
    title: str
    note: str
    groups: list[Group]


def write_search_report(path: Path, search: "ImageSearch", results: "Sequence[SearchResult]") -> Path:
    """Write the page, which has no scripts and makes no requests.

    Raises:
        OutputError: if it cannot be written.
    """
    index = search.index
    sections = [
        Section(
            "found",
            "Found",
            "The most similar images for each, with the cosine of the embeddings.",
            [
                Group(result.name, [_make_card(result.name, "searched for"), *map(_match_card, result.matches)])
                for result in results
                if result.error is None
            ],
        ),
        Section(
            "hardest",
            "The hardest",
            "Images of the validation and test splits whose own class is least probable: mistakes of the model, or of "
            "the labels.",
            _one_group(_make_card(one.image.name, one.text) for one in find_hardest(search.predictor, index, SHOWN)),
        ),
        Section(
            "strangest",
            "The strangest",
            "Images that are farthest from those of any class.",
            _one_group(_make_card(one.image.name, one.text) for one in find_strangest(search.predictor, index, SHOWN)),
        ),
        Section(
            "groups",
            "Groups",
            "Groups of similar images by k-means, the largest first, each with its most typical images.",
            [
                Group(
                    f"{one.size:,} images" + (f", {percent(one.share)} of them {one.label}" if one.label else ""),
                    [_make_card(image.name, image.label) for image in one.images],
                )
                for one in find_clusters(index, PER_CLUSTER)
            ],
        ),
    ]
    html = render_page(
        "search.html.j2",
        "megavit.search",
        title="Similar images",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=str(search.predictor.folder),
        count=len(index.images),
        sections=[section for section in sections if any(group.cards for group in section.groups)],
    )
    return write_report_file(path, html)


def _one_group(cards: Iterable[Card]) -> list[Group]:
    return [Group("", list(cards))]


def _match_card(match: "Match") -> Card:
    parts = [f"{match.similarity:.3f}", match.image.label, "near copy" if match.is_near_copy else ""]
    return _make_card(match.image.name, " · ".join(filter(None, parts)))


def _make_card(name: str, text: str) -> Card:
    try:
        pixels, _ = read_image(name, (SIDE, SIDE))
    except ImageError:  # an image in memory or in a shard, or a file that is gone
        return Card(name, "", text)
    return Card(name, encode_image(pixels, max(pixels.shape[1:]) <= SMALL_SIDE), text)
