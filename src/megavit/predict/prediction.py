"""What a predictor answers with."""

from dataclasses import dataclass
from typing import Any, NoReturn


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the model says about one image, by what it was trained for (`Predictor.target`).

    For one class an image: `label`, `probability` and `top`. For any number of labels: `labels` and `top`. For a
    score: `score`. Asking for one of the others is an AttributeError that says so: nothing is taken for what it is
    not.

    Attributes:
        top: the likeliest classes or labels and their probabilities in [0, 1], likeliest first; empty for a score.
        given: of several labels, those whose probability reaches their threshold, with it, likeliest first.
        value: the score.
        out_of_distribution: whether the image is unlike the training images, and its answer means little;
            None where that is not known.
        prediction_set: where a coverage was asked for, the classes that hold the true one with that probability,
            likeliest first.
        interval: where a coverage was asked for, the ends of the range that holds the true score.
    """

    top: tuple[tuple[str, float], ...] = ()
    given: tuple[tuple[str, float], ...] | None = None
    value: float | None = None
    out_of_distribution: bool | None = None
    prediction_set: tuple[tuple[str, float], ...] | None = None
    interval: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        """The likeliest class."""
        return self._likeliest("label")[0]

    @property
    def probability(self) -> float:
        """Of `label`, in [0, 1]."""
        return self._likeliest("probability")[1]

    @property
    def labels(self) -> tuple[tuple[str, float], ...]:
        """Each label whose probability reaches its threshold, with that probability, likeliest first; maybe none."""
        return self._refuse("labels") if self.given is None else self.given

    @property
    def score(self) -> float:
        """In the unit of the training scores."""
        return self._refuse("score") if self.value is None else self.value

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types; what is not known is not in it."""
        found: dict[str, Any] = {}
        if self.value is not None:
            found["score"] = self.value
        elif self.given is not None:
            found |= {"labels": _listed(self.given), "top": _listed(self.top)}
        else:
            found |= {"label": self.label, "probability": self.probability, "top": _listed(self.top)}
        if self.prediction_set is not None:
            found["prediction_set"] = _listed(self.prediction_set)
        if self.interval is not None:
            found["interval"] = list(self.interval)
        if self.out_of_distribution is not None:
            found["out_of_distribution"] = self.out_of_distribution
        return found

    def _likeliest(self, name: str) -> tuple[str, float]:
        return self._refuse(name) if self.given is not None or not self.top else self.top[0]

    def _refuse(self, name: str) -> NoReturn:
        has = "score" if self.value is not None else "labels" if self.given is not None else "label and probability"
        raise AttributeError(f"this prediction has no {name}: the model was trained for another target; it has {has}")


@dataclass(frozen=True)
class PredictionResult:
    """One line of a stream: the image's name with its prediction, or with the reason why there is none."""

    name: str
    prediction: Prediction | None
    error: str | None

    def to_dict(self) -> dict[str, Any]:
        if self.prediction is None:
            return {"path": self.name, "error": self.error}
        return {"path": self.name, **self.prediction.to_dict()}


def _listed(ranked: tuple[tuple[str, float], ...]) -> list[dict[str, Any]]:
    return [{"label": label, "probability": probability} for label, probability in ranked]
