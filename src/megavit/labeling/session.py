"""Hold the state of a labeling session: the images, their labels and classes, and what has been learned of them."""

import getpass
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from megavit.config.target import TargetKind
from megavit.data.sources.label_log import Decision, Status
from megavit.data_check.finding import KINDS
from megavit.errors import ConfigError
from megavit.labeling.history import find_undoable
from megavit.labeling.images import ImageList, check_class, check_classes, digest_name
from megavit.labeling.jobs import CheckJob, TrainingJob
from megavit.labeling.learning.features import Features
from megavit.labeling.learning.labels import Labels
from megavit.labeling.learning.learner import Learner
from megavit.labeling.store import LabelStore, Mark
from megavit.labeling.thumbnails import Thumbnails

LoadFeatures = Callable[[ImageList, Sequence[int]], Features]


class LabelingSession:
    """A session, of which all windows show the same state; safe to use from several threads.

    Args:
        load_features: function that returns the features to learn from, of the images and their random order.
        choose_out: function that returns a new folder for a training run.
        classes: names of classes to begin with; others are added as they are used.

    Raises:
        ConfigError: if a class cannot be used.
        DataError: if the log of labels is damaged or of another target.
    """

    def __init__(
        self,
        images: ImageList,
        load_features: LoadFeatures,
        classes: Sequence[str] = (),
        target: TargetKind = "classification",
        choose_out: Callable[[], Path] = lambda: Path("run"),
    ) -> None:
        self.images, self.target = images, target
        self.thumbnails = Thumbnails(images)
        self.store = LabelStore(images.folder, target)
        self.training, self.check = TrainingJob(images.folder, choose_out), CheckJob(images.folder)
        self.by = _user_name()
        self._id = secrets.token_hex(4)
        self._classes = check_classes(classes)
        self._random_order = sorted(range(len(images.names)), key=lambda index: digest_name(images.names[index]))
        self.learner = Learner(
            lambda: load_features(images, self._random_order), self.thumbnails, self.labels, self._random_order
        )
        self._indices = {name: index for index, name in enumerate(images.names)}

    @property
    def classes(self) -> list[str]:
        """The classes in the order of their keys: those given, then the others as they were first used."""
        used = {label: None for decision in list(self.store.decisions) for label in decision.labels}
        return list(dict.fromkeys((*self._classes, *used)))

    def describe(self) -> dict[str, Any]:
        """Return what a page needs when it is loaded, as plain JSON types."""
        self.store.refresh()
        undoable = find_undoable(list(self.store.decisions), self.by)
        return {
            "folder": self.images.folder.absolute().name,
            "names": self.images.names,
            "left_out": len(self.images.unnamed),
            "target": self.target,
            "by": self.by,
            "strokes": [
                {"stroke": stroke, "images": [self._indices[name] for name in names if name in self._indices]}
                for stroke, names in undoable.items()
            ],
        }

    def changes(self, generation: str = "", since: int = 0) -> dict[str, Any]:
        """Return the decisions that count and are newer than the first `since` ones, as plain JSON types.

        Args:
            generation: that of the answer that `since` is from; all decisions are returned if it is another one now.
        """
        self.store.refresh()
        decisions = list(self.store.decisions)
        if len(decisions) != since:
            self.learner.wake()
        current = f"{self._id}-{self.store.generation}"
        is_reset = generation != current
        last: dict[str, Decision] = {one.path: one for one in decisions[0 if is_reset else since :]}
        return {
            "generation": current,
            "is_reset": is_reset,
            "since": len(decisions),
            "classes": self.classes,
            "decisions": [
                {"image": self._indices[one.path], "status": one.status, "labels": one.labels, "stroke": one.stroke}
                for one in last.values()
                if one.path in self._indices
            ],
            "learning": self.learner.describe(),
        }

    def label(self, stroke: str, status: Status, labels: Sequence[str], marks: Sequence[dict[str, Any]]) -> None:
        """Write a stroke; `marks` have an image's index, the stroke that was `seen`, and what was suggested.

        Raises:
            ConfigError: if the labels do not fit the target, or one cannot be used.
            DataError, OutputError, StaleError: as for `LabelStore.add`.
        """
        self.store.add(stroke, [self._mark(mark, status, self._check(status, labels)) for mark in marks], self.by)
        self.learner.wake()

    def queue(self, count: int) -> list[dict[str, Any]]:
        """Return up to `count` images to label next, as plain JSON types."""
        return self.suggestions(self.learner.order(self.labels(), count))

    def suggestions(self, indices: Iterable[int]) -> list[dict[str, Any]]:
        """Return the class that is suggested for each image and its probability, or None, as plain JSON types."""
        found = [(index, self.learner.suggest(index)) for index in indices]
        return [
            {"image": index, "suggested": one and one[0], "probability": one and round(one[1], 4)}
            for index, one in found
        ]

    def similar(self, index: int, count: int) -> list[dict[str, Any]]:
        """Return the images most similar to one, the most similar first, as plain JSON types."""
        found = self.learner.find_similar(index, count)
        return [{"image": image, "cosine": round(cosine, 4)} for image, cosine in found]

    def labels(self) -> Labels:
        """Return the labels of this moment."""
        decisions, classes = list(self.store.decisions), self.classes
        places = {name: place for place, name in enumerate(classes)}
        last = {self._indices[one.path]: one for one in decisions if one.path in self._indices}
        return Labels(
            (self.store.generation, len(decisions)),
            self.target,
            tuple(classes),
            {
                index: tuple(places[label] for label in one.labels)
                for index, one in last.items()
                if one.status == "labeled"
            },
            frozenset(index for index, one in last.items() if one.status != "unlabeled"),
        )

    def undo(self, stroke: str, undone: str) -> None:
        """Undo an earlier stroke by another one; errors are those of `LabelStore.undo`."""
        self.store.undo(stroke, undone, self.by)
        self.learner.wake()

    def findings(self) -> list[dict[str, Any]]:
        """Return what the check doubts of images, the most serious first, as plain JSON types."""
        return [
            {
                "kind": finding["kind"],
                "title": KINDS[finding["kind"]].title,
                "message": finding["message"],
                "suggested": finding["suggested_label"],
                "images": images,
            }
            for finding in self.check.read_findings()
            if finding["severity"] != "info"
            and (images := [self._indices[name] for name in finding["images"] if name in self._indices])
        ]

    def start(self) -> None:
        """Start to learn."""
        self.learner.start()

    def stop(self) -> None:
        """Stop to learn, and what else is running."""
        self.training.job.stop()
        self.check.job.stop()
        self.learner.stop()

    def _check(self, status: Status, labels: Sequence[str]) -> tuple[str, ...]:
        if status != "labeled":
            if labels:
                raise ConfigError("only an image that is labeled has labels")
            return ()
        if self.target == "classification" and len(labels) != 1:
            raise ConfigError("an image has one class; start megavit label with --multilabel for several labels")
        known = self.classes
        return tuple(sorted({check_class(label, known) for label in labels}))

    def _mark(self, mark: dict[str, Any], status: Status, labels: tuple[str, ...]) -> Mark:
        path = self.images.names[mark["image"]]
        return Mark(path, status, labels, mark["seen"], mark["suggested"], mark["probability"])


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user ID without a name
        return ""
