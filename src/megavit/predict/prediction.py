"""Define the results that predictors return."""

from dataclasses import dataclass
from typing import Any, NoReturn

from megavit.page import inline

Ranked = tuple[tuple[str, float], ...]  # labels with their probabilities in [0, 1], in descending order


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The prediction for one image; `Predictor.target` decides which attributes are available.

    Classification: `label`, `probability`, `top`. Multilabel: `labels`, `top`. Regression: `score`.

    Attributes:
        top: the most probable classes or labels; empty for regression.
        assigned: for multilabel, the labels whose probability reaches their threshold.
        value: for regression, the score.
        out_of_distribution: whether the image is unlike the training images, so not reliably predicted; None if
            unknown.
        prediction_set: if a coverage was requested, the classes that include the true one with this probability.
        interval: if a coverage was requested, the bounds (low, high) that contain the true score with this probability.
    """

    top: Ranked = ()
    assigned: Ranked | None = None
    value: float | None = None
    out_of_distribution: bool | None = None
    prediction_set: Ranked | None = None
    interval: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        """The most probable class."""
        return self._likeliest("label")[0]

    @property
    def probability(self) -> float:
        """The probability of `label`, in [0, 1]."""
        return self._likeliest("probability")[1]

    @property
    def labels(self) -> Ranked:
        """The labels whose probability reaches their threshold; may be empty."""
        return self._raise_missing("labels") if self.assigned is None else self.assigned

    @property
    def score(self) -> float:
        """The predicted score, in the unit of the training scores."""
        return self._raise_missing("score") if self.value is None else self.value

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types, without unknown values."""
        table: dict[str, Any] = {}
        if self.value is not None:
            table["score"] = self.value
        elif self.assigned is not None:
            table |= {"labels": _to_dicts(self.assigned), "top": _to_dicts(self.top)}
        else:
            table |= {"label": self.label, "probability": self.probability, "top": _to_dicts(self.top)}
        if self.prediction_set is not None:
            table["prediction_set"] = _to_dicts(self.prediction_set)
        if self.interval is not None:
            table["interval"] = list(self.interval)
        if self.out_of_distribution is not None:
            table["out_of_distribution"] = self.out_of_distribution
        return table

    def _repr_html_(self) -> str:
        """Return the prediction for a notebook: a bar for each of the top classes, the set, and the mark."""
        parts = []
        if self.value is not None:
            parts.append(inline.heading(f"{self.value:.4g}"))
        elif self.assigned is not None:
            parts.append(inline.heading(", ".join(label for label, _ in self.assigned) or "no label"))
        else:
            parts.append(inline.heading(f"{self.label}, {self.probability:.1%}"))
        if self.top:
            parts.append(inline.bars((label, probability, f"{probability:.1%}") for label, probability in self.top))
        if self.prediction_set is not None:
            listed = ", ".join(label for label, _ in self.prediction_set) or "none"
            parts.append(inline.line(f"prediction set: {listed}"))
        if self.interval is not None:
            parts.append(inline.line("interval: {:.4g} to {:.4g}".format(*self.interval)))
        if self.out_of_distribution:
            parts.append(inline.warning("unlike the training images: the prediction is not reliable"))
        return inline.block(*parts)

    def _likeliest(self, name: str) -> tuple[str, float]:
        return self._raise_missing(name) if self.assigned is not None or not self.top else self.top[0]

    def _raise_missing(self, name: str) -> NoReturn:
        has = "label and probability" if self.assigned is None else "labels"
        has = has if self.value is None else "score"
        raise AttributeError(f"this prediction has no {name}: the model was trained for another target; it has {has}")


@dataclass(frozen=True)
class PredictionResult:
    """The name of an image with its prediction, or with the reason why there is none."""

    name: str
    prediction: Prediction | None
    error: str | None

    def to_dict(self) -> dict[str, Any]:
        if self.prediction is None:
            return {"path": self.name, "error": self.error}
        return {"path": self.name, **self.prediction.to_dict()}


def _to_dicts(ranked: Ranked) -> list[dict[str, Any]]:
    return [{"label": label, "probability": probability} for label, probability in ranked]
