"""Learn from the labels in a thread of its own: features, a probe, the order of the images, and an estimate."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.errors import MegavitError
from megavit.labeling.images import digest_name
from megavit.labeling.learning.estimate import Estimate, Estimator
from megavit.labeling.learning.feature_table import FeatureTable
from megavit.labeling.learning.features import Features
from megavit.labeling.learning.labels import Labels
from megavit.labeling.learning.order import choose_diverse, measure_density, mix, score_usefulness
from megavit.labeling.learning.probe import GrowingProbe, Scaling
from megavit.labeling.thumbnails import Thumbnails

ORDERED = 240
"""Number of images that are put in order after a fit."""
UNSUGGESTED = 20
"""Number of the next random images for which nothing is suggested, so that the labels are not biased."""
MIN_SCALING_IMAGES = 64
ESTIMATE_GROWTH = 1.02
_IDLE_SECONDS = 60.0


@dataclass(frozen=True)
class Knowledge:
    """What has been learned, all from the same labels.

    Attributes:
        version: number that grows with each fit.
        useful: images to label next, those that teach most first.
        suggested: class index for each image, (N,), -1 without a suggestion.
        probability: probability of the suggested class, (N,).
        labels: number of labels that it was learned from.
        seconds: time of the fit and the order.
    """

    version: int = 0
    useful: tuple[int, ...] = ()
    suggested: Tensor | None = None
    probability: Tensor | None = None
    classes: tuple[str, ...] = ()
    labels: int = 0
    seconds: float = 0.0


class Learner:
    """A thread that learns whenever labels or features have arrived.

    Args:
        load: function that returns the features, called in the thread as it may take seconds.
        read_labels: function that returns the labels of now.
        order: indices of the images in random order.

    Attributes:
        knowledge: the newest knowledge.
        estimate: the newest estimate, or None.
        problem: why nothing is learned; "" if something is.
    """

    def __init__(
        self,
        load: Callable[[], Features],
        thumbnails: Thumbnails,
        read_labels: Callable[[], Labels],
        order: Sequence[int],
    ) -> None:
        self._load, self._thumbnails, self._read_labels, self._order = load, thumbnails, read_labels, order
        self.knowledge, self.problem = Knowledge(), ""
        self.estimate: Estimate | None = None
        self.table: FeatureTable | None = None
        self._estimate_labels = 0
        self._estimating: Iterator[Estimate | None] | None = None
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._fitted: tuple[tuple[int, int], int, int] | None = None
        self._is_settled = True
        self._thread = threading.Thread(target=self._run, name="megavit-label", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Have the thread look for new labels."""
        self._wake.set()

    def stop(self) -> None:
        """Stop the thread after what it is doing."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def describe(self) -> dict[str, Any]:
        """Return the progress and the estimate as plain JSON types."""
        table, knowledge, estimate = self.table, self.knowledge, self.estimate
        return {
            "version": knowledge.version,
            "features": table.features.name if table else "",
            "done": table.done if table else 0,
            "total": len(self._order),
            "labels": knowledge.labels,
            "seconds": round(knowledge.seconds, 3),
            "estimate": estimate.to_dict() if estimate else None,
            "problem": self.problem,
        }

    def suggest(self, index: int) -> tuple[str, float] | None:
        """Return the class that is suggested for an image and its probability, or None."""
        known = self.knowledge
        if known.suggested is None or known.probability is None or known.suggested[index] < 0:
            return None
        return known.classes[int(known.suggested[index])], float(known.probability[index])

    def find_similar(self, index: int, count: int) -> list[tuple[int, float]]:
        """Return the images most similar to one, and their cosines, as far as there are features."""
        table = self.table
        if table is None or table.rows is None or not table.is_known[index]:
            return []
        known = table.is_known.nonzero().flatten()
        rows = F.normalize(Scaling.of(table.rows[known])(table.rows[known]), dim=1)
        cosines = rows @ rows[int((known == index).nonzero())]
        cosines[known == index] = -2.0
        best = cosines.topk(min(count, len(known) - 1))
        return [(int(known[place]), float(value)) for value, place in zip(*best, strict=True)]

    def _run(self) -> None:
        try:
            self.table = FeatureTable(self._load(), self._thumbnails, self._order)
            while not self._stopped.is_set():
                self._wake.clear()
                labels = self._read_labels()
                if self._learn(labels) or not self.table.is_complete:
                    if not self.table.is_complete:
                        self.table.compute_some(list(labels.targets))
                    continue
                self._wake.wait(_IDLE_SECONDS)
        except MegavitError as error:
            self.problem = str(error)

    def _learn(self, labels: Labels) -> bool:
        """Learn from new labels, and return whether there was anything to do."""
        table = self.table
        assert table is not None
        known = int(table.is_known.sum())
        # New features are taken up now and then, new labels at once.
        indices = [index for index in labels.targets if table.is_known[index]]
        state = (labels.version, len(indices), known if table.is_complete else known.bit_length())
        if table.rows is None or known < min(MIN_SCALING_IMAGES, len(self._order) - len(table.failed)):
            return False
        if state == self._fitted and self._is_settled:
            return self._measure(labels)
        began = time.perf_counter()
        is_other = labels.classes[: len(self.knowledge.classes)] != self.knowledge.classes
        if self._fitted is None or self._fitted[2] != state[2] or is_other:
            self._known = table.is_known.nonzero().flatten()
            self._scaling = Scaling.of(table.rows[self._known])
            self._rows = self._scaling(table.rows)
            self._density = torch.zeros(len(self._rows))
            self._density[self._known] = measure_density(self._rows[self._known])
            self._probe, self._estimator = GrowingProbe(labels.target), Estimator(labels.target)
            self._estimate_labels, self._estimating = 0, None
        self._fitted, self._is_settled = state, True
        undecided = [index for index in self._known.tolist() if index not in labels.decided]
        open_ = torch.tensor(undecided, dtype=torch.int64)
        suggested = torch.full((len(self._order),), -1)
        probability = torch.zeros(len(self._order))
        useful: list[int] = []
        targets = labels.encode(indices)
        if len(open_) and targets.any(dim=0).sum() >= (2 if labels.target == "classification" else 1):
            self._is_settled = self._probe.fit(self._scaling(table.rows[torch.tensor(indices)]), targets)
            probabilities = self._probe.predict(self._rows[open_])
            usefulness = score_usefulness(probabilities, targets.sum(dim=0), labels.target)
            useful = self._choose(open_, usefulness, labels)
            best = probabilities.max(dim=1)
            suggested[open_], probability[open_] = best.indices, best.values
            suggested[torch.tensor(self._next_random(labels)[:UNSUGGESTED], dtype=torch.int64)] = -1
        elif len(open_):
            useful = self._choose(open_, torch.ones(len(open_)), labels)
        self.knowledge = Knowledge(
            self.knowledge.version + 1,
            tuple(useful),
            suggested,
            probability,
            labels.classes,
            len(indices),
            time.perf_counter() - began,
        )
        return True

    def _choose(self, open_: Tensor, usefulness: Tensor, labels: Labels) -> list[int]:
        """Return the images to label next: useful and typical ones, unlike those that were decided and each other."""
        decided = [index for index in labels.decided if self._density[index] > 0]
        known = self._rows[torch.tensor(decided, dtype=torch.int64)]
        chosen = choose_diverse(self._rows[open_], usefulness * self._density[open_], ORDERED, known)
        return open_[torch.tensor(chosen, dtype=torch.int64)].tolist()

    def order(self, labels: Labels, count: int) -> list[int]:
        """Return the next `count` images: useful ones, and every so often a random one."""
        useful = [index for index in self.knowledge.useful if index not in labels.decided]
        failed = self.table.failed if self.table else set()
        random = [index for index in self._next_random(labels) if index not in failed]
        found = mix(useful, random, len(labels.decided))
        return list(islice(found, count))

    def _next_random(self, labels: Labels) -> list[int]:
        return [index for index in self._order if index not in labels.decided]

    def _measure(self, labels: Labels) -> bool:
        """Go on with an estimate, or begin one if there are enough new labels, and return whether there was a step."""
        table = self.table
        assert table is not None and table.rows is not None
        if self._estimating is not None:
            found = next(self._estimating)
            if found is not None:
                self.estimate, self._estimating = found, None
            return True
        indices = [index for index in labels.targets if table.is_known[index]]
        if len(indices) < ESTIMATE_GROWTH * self._estimate_labels or len(indices) == self._estimate_labels:
            return False
        self._estimate_labels = len(indices)
        drawn: set[int] = set()
        for index in self._order:
            if index not in labels.decided and index not in table.failed:
                break
            drawn.add(index)
        names = self._thumbnails.images.names
        self._estimating = self._estimator.estimate(
            self._scaling(table.rows[torch.tensor(indices)]),
            labels.encode(indices),
            torch.tensor([index in drawn for index in indices]),
            [digest_name(names[index]) for index in indices],
            labels.classes,
        )
        return True
