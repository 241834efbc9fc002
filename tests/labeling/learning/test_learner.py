"""The thread learns from what is labeled, puts the images in order, and keeps what it has computed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from megavit.labeling.images import list_images
from megavit.labeling.learning.features import PlainFeatures
from megavit.labeling.session import LabelingSession
from tests.helpers.label_server import write_stripes
from tests.helpers.waiting import wait_until

COUNT = 80


class CountingFeatures(PlainFeatures):
    """Plain features that count the images."""

    def __init__(self) -> None:
        self.images = 0

    def compute(self, thumbnails: Sequence[torch.Tensor]) -> torch.Tensor:
        self.images += len(thumbnails)
        return super().compute(thumbnails)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stripes(tmp_path_factory.mktemp("stripes"))


@pytest.fixture(scope="module")
def session(folder: Path) -> LabelingSession:
    """A session that has learned from forty labels given in its own order."""
    session = LabelingSession(list_images(folder), lambda *_: CountingFeatures(), ("along", "across"))
    session.learner.start()
    wait_until(lambda: session.learner.knowledge.useful != (), why=lambda: session.learner.problem)
    for number in range(5):
        by_class: dict[str, list[dict[str, Any]]] = {}
        for offered in session.queue(8):
            mark = {"image": offered["image"], "seen": "", "suggested": "", "probability": ""}
            by_class.setdefault(label_of(session, offered["image"]), []).append(mark)
        for name, marks in by_class.items():
            version = session.learner.knowledge.version
            session.label(f"{name}-{number}", "labeled", [name], marks)
            wait_until(lambda version=version: session.learner.knowledge.version > version)
    wait_until(lambda: (found := session.learner.estimate) is not None and found.labels == 40)
    session.learner.stop()
    return session


def label_of(session: LabelingSession, index: int) -> str:
    return ("along", "across")[int(session.images.names[index][:3]) % 2]


def test_it_suggests_what_it_has_learned(session: LabelingSession) -> None:
    found = [one for one in session.suggestions(range(COUNT)) if one["suggested"]]
    assert len(found) >= 5  # nothing for those that are labeled, and for the next random ones
    assert all(one["suggested"] == label_of(session, one["image"]) for one in found)
    assert all(0.5 <= one["probability"] <= 1 for one in found)


def test_it_knows_how_good_it_is(session: LabelingSession) -> None:
    described = session.changes()["learning"]
    assert described["labels"] == 40 and described["problem"] == ""
    assert described["done"] == described["total"] == COUNT + 1
    assert 10 <= described["estimate"]["images"] < 40  # one in four was the next random one
    assert described["estimate"]["accuracy"]["value"] > 0.85


def test_it_finds_similar_images(session: LabelingSession) -> None:
    first = session.images.names.index("000.png")
    similar = session.similar(first, 10)
    assert first not in [one["image"] for one in similar]
    assert sum(label_of(session, one["image"]) == "along" for one in similar) >= 9
    assert similar == sorted(similar, key=lambda one: -one["cosine"])
    assert session.similar(session.images.names.index("broken.png"), 10) == []


def test_an_image_that_cannot_be_read_is_not_offered_once_that_is_known(session: LabelingSession) -> None:
    broken = session.images.names.index("broken.png")
    assert broken not in [one["image"] for one in session.queue(COUNT)]


def test_features_are_computed_once_and_again_only_for_files_that_changed(
    folder: Path, session: LabelingSession
) -> None:
    (folder / "000.png").write_bytes((folder / "001.png").read_bytes() + b"\0")
    features = CountingFeatures()
    again = LabelingSession(list_images(folder), lambda *_: features)
    again.learner.start()
    wait_until(lambda: again.learner.table is not None and again.learner.table.is_complete)
    wait_until(lambda: again.learner.knowledge.labels == 40)
    again.learner.stop()
    assert features.images == 1


def test_a_damaged_file_of_features_is_computed_again(folder: Path, session: LabelingSession) -> None:
    for path in (folder / ".megavit" / "features").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    features = CountingFeatures()
    again = LabelingSession(list_images(folder), lambda *_: features)
    again.learner.start()
    wait_until(lambda: again.learner.table is not None and again.learner.table.is_complete)
    again.learner.stop()
    assert features.images == COUNT
