"""Answers as they come: lines on the terminal, or rows of a CSV or JSONL file."""

import contextlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from megavit.cli.console import json_line, print_json, printable, results
from megavit.config.target import TargetKind, joined
from megavit.errors import OutputError
from megavit.predict.prediction import Prediction, PredictionResult
from megavit.runtime.csv_files import CsvWriter
from megavit.runtime.storage import writing


class AnswerWriter:
    """Writes each answer at once, so that what was computed is never lost.

    Args:
        output: a new .csv or .jsonl file, or None for standard output.
        as_json: JSON lines on standard output.
        top: classes or labels of each answer, which is the number of column pairs of a CSV.
        target: of the answers.
        covered: whether they come with a set, or a range.

    Raises:
        OutputError: when `output` is there already, has another suffix, or cannot be written.
    """

    def __init__(
        self,
        output: Path | None,
        *,
        as_json: bool,
        top: int,
        target: TargetKind = "classification",
        covered: bool = False,
    ) -> None:
        check_output(output)
        self.output, self.as_json, self.top, self.target, self.covered = output, as_json, top, target, covered
        self._stack = ExitStack()
        self._file: Any = None
        self._table: Any = None
        self._wrote = False

    def __enter__(self) -> Self:
        if self.output is None:
            return self
        with writing("the answers", self.output):
            try:
                opened = self.output.open("x", buffering=1, encoding="utf-8", errors="surrogateescape", newline="")
            except FileExistsError:
                raise OutputError(f"{self.output} is there already; move it away or choose another name") from None
        self._file = self._stack.enter_context(opened)
        if self.output.suffix == ".csv":
            self._table = CsvWriter(self._file)
            try:
                with writing("the answers", self.output):
                    self._table.writerow(["path", *self._columns(), "out_of_distribution", "error"])
            except OutputError:
                with contextlib.suppress(OSError):
                    self._stack.close()
                self.output.unlink(missing_ok=True)
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.output is None:
            return
        try:
            with writing("the answers", self.output):
                self._stack.close()
        finally:
            if not self._wrote:  # or an empty file would refuse the next try
                self.output.unlink(missing_ok=True)

    def write(self, answer: PredictionResult) -> None:
        if self.output is None:
            self._print(answer)
            return
        with writing("the answers", self.output):
            if self._table is not None:
                self._table.writerow(self._row(answer))
            else:
                self._file.write(json_line(answer.to_dict()))
            self._wrote = True

    def _columns(self) -> list[str]:
        if self.target == "regression":
            return ["score", *(["low", "high"] if self.covered else [])]
        ranks = [f"{what}_{rank}" for rank in range(1, self.top + 1) for what in ("label", "probability")]
        if self.target == "multilabel":
            return ["labels", *ranks]
        return ["label", "probability", *(["prediction_set"] if self.covered else []), *ranks[2:]]

    def _row(self, answer: PredictionResult) -> list[str]:
        told = answer.prediction
        cells = self._cells(told) if told else []
        cells += [""] * (len(self._columns()) - len(cells))
        unlike = "" if told is None or told.out_of_distribution is None else str(told.out_of_distribution).lower()
        return [answer.name, *cells, unlike, answer.error or ""]

    def _cells(self, prediction: Prediction) -> list[str]:
        if self.target == "regression":
            return [repr(number) for number in (prediction.score, *(prediction.interval or ()))]
        ranked = [text for label, probability in prediction.top for text in (label, f"{probability:.6f}")]
        if self.target == "multilabel":
            return [_joined(prediction.labels), *ranked]
        members = [] if prediction.prediction_set is None else [_joined(prediction.prediction_set)]
        return [*ranked[:2], *members, *ranked[2:]]

    def _print(self, answer: PredictionResult) -> None:
        name = printable(answer.name)
        if self.as_json:
            print_json(answer.to_dict())
        elif answer.prediction is None:
            results.print(f"{name}  cannot be read: {printable(answer.error or '')}", style="yellow")
        else:
            unlike = answer.prediction.out_of_distribution
            told = _told(answer.prediction, self.target) + ("  (unlike the training images)" if unlike else "")
            results.print(f"{name}  {told}", style="yellow" if unlike else None)


def check_output(output: Path | None) -> None:
    """Refuse a kind of file that answers cannot be written as.

    Raises:
        OutputError: naming those that they can.
    """
    if output is not None and output.suffix not in (".csv", ".jsonl"):
        raise OutputError(f"answers are written as .csv or .jsonl, not as {output.name!r}")


def _told(prediction: Prediction, target: TargetKind) -> str:
    if target == "regression":
        low, high = prediction.interval or (None, None)
        return f"{prediction.score:.4g}" + (f"  ({low:.4g} to {high:.4g})" if low is not None else "")
    told = prediction.labels if target == "multilabel" else prediction.prediction_set or prediction.top
    return "  ".join(f"{printable(label)} {probability:.1%}" for label, probability in told) or "no label"


def _joined(labels: tuple[tuple[str, float], ...]) -> str:
    """As the column of a table to train on would have them."""
    return joined(label for label, _ in labels)
