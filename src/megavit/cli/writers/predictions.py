"""Write predictions as they come, as lines of text or JSON, or to a .csv or .jsonl file."""

from contextlib import ExitStack
from pathlib import Path
from typing import Self

from megavit.cli.console import print_json, results
from megavit.cli.writers.line_file import LineFile
from megavit.config.names import printable
from megavit.config.target import TargetKind, join_labels
from megavit.predict.prediction import Prediction, PredictionResult


class PredictionWriter:
    """A writer of predictions to a new .csv or .jsonl file, or to standard output without a path.

    Args:
        as_json: print JSON lines.
        top: number of classes or labels per image, and of column pairs of a .csv file.
        coverage: whether prediction sets or intervals are requested.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        as_json: bool,
        top: int,
        target: TargetKind = "classification",
        coverage: bool = False,
    ) -> None:
        self.as_json, self.top, self.target, self.coverage = as_json, top, target, coverage
        columns = ["path", *self._columns(), "out_of_distribution", "error"]
        self._file = None if path is None else LineFile(path, "the predictions", columns)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._file is not None:
            self._stack.enter_context(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, result: PredictionResult) -> None:
        if self._file is not None:
            self._file.write(self._row(result) if self._file.is_csv else result.to_dict())
        elif self.as_json:
            print_json(result.to_dict())
        elif result.prediction is None:
            print_unreadable(result.name, result.error or "")
        else:
            unlike = result.prediction.out_of_distribution
            text = self._describe(result.prediction) + ("  (unlike the training images)" if unlike else "")
            results.print(f"{printable(result.name)}  {text}", style="yellow" if unlike else None)

    def _columns(self) -> list[str]:
        if self.target == "regression":
            return ["score", *(["low", "high"] if self.coverage else [])]
        ranks = [f"{what}_{rank}" for rank in range(1, self.top + 1) for what in ("label", "probability")]
        if self.target == "multilabel":
            return ["labels", *ranks]
        return ["label", "probability", *(["prediction_set"] if self.coverage else []), *ranks[2:]]

    def _row(self, result: PredictionResult) -> list[str]:
        prediction = result.prediction
        cells = self._cells(prediction) if prediction else []
        cells += [""] * (len(self._columns()) - len(cells))
        unlike = "" if prediction is None else prediction.out_of_distribution
        return [result.name, *cells, "" if unlike is None else str(unlike).lower(), result.error or ""]

    def _cells(self, prediction: Prediction) -> list[str]:
        if self.target == "regression":
            return [repr(number) for number in (prediction.score, *(prediction.interval or ()))]
        ranked = [text for label, probability in prediction.top for text in (label, f"{probability:.6f}")]
        if self.target == "multilabel":
            return [join_labels(label for label, _ in prediction.labels), *ranked]
        members = prediction.prediction_set
        return [*ranked[:2], *([] if members is None else [join_labels(label for label, _ in members)]), *ranked[2:]]

    def _describe(self, prediction: Prediction) -> str:
        if self.target == "regression":
            interval = "" if prediction.interval is None else "  ({:.4g} to {:.4g})".format(*prediction.interval)
            return f"{prediction.score:.4g}{interval}"
        labels = prediction.labels if self.target == "multilabel" else prediction.prediction_set or prediction.top
        return "  ".join(f"{printable(label)} {probability:.1%}" for label, probability in labels) or "no label"


def print_unreadable(name: str, reason: str) -> None:
    results.print(f"{printable(name)}  cannot be read: {printable(reason)}", style="yellow")
