"""Answers as they come: lines on the terminal, or rows of a CSV or JSONL file."""

import csv
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from megavit.cli.output import print_json, printable, results
from megavit.config.target import TargetKind
from megavit.data.samples import PARTING
from megavit.errors import OutputError
from megavit.predict.prediction import Answer, Prediction
from megavit.runtime.storage import writing


class AnswerWriter:
    """Writes each answer at once, so that what was computed is never lost.

    Args:
        output: a new .csv or .jsonl file, or None for standard output.
        as_json: JSON lines on standard output.
        top: classes or labels of each answer, which is the number of column pairs of a CSV.
        target: of the answers.

    Raises:
        OutputError: when `output` is there already, has another suffix, or cannot be written.
    """

    def __init__(self, output: Path | None, *, as_json: bool, top: int, target: TargetKind = "classes") -> None:
        check_output(output)
        self.output, self.as_json, self.top, self.target = output, as_json, top, target
        self._stack = ExitStack()
        self._file: Any = None
        self._table: Any = None

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
            self._table = csv.writer(self._file, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
            self._table.writerow(["path", *self._columns(), "error"])
        return self

    def __exit__(self, *_: object) -> None:
        if self.output is not None:
            with writing("the answers", self.output):
                self._stack.close()

    def write(self, answer: Answer) -> None:
        if self.output is None:
            self._print(answer)
            return
        with writing("the answers", self.output):
            if self._table is not None:
                self._table.writerow(self._row(answer))
            else:
                self._file.write(json.dumps(answer.to_dict()) + "\n")

    def _columns(self) -> list[str]:
        if self.target == "score":
            return ["score"]
        ranks = [f"{what}_{rank}" for rank in range(1, self.top + 1) for what in ("label", "probability")]
        return ["label", "probability", *ranks[2:]] if self.target == "classes" else ["labels", *ranks]

    def _row(self, answer: Answer) -> list[str]:
        cells = self._cells(answer.prediction) if answer.prediction else []
        cells += [""] * (len(self._columns()) - len(cells))
        return [answer.name, *cells, answer.error or ""]

    def _cells(self, prediction: Prediction) -> list[str]:
        if self.target == "score":
            return [repr(prediction.score)]
        ranked = [text for label, probability in prediction.top for text in (label, f"{probability:.6f}")]
        # As the column of a table to train on would have them.
        given = [] if self.target == "classes" else [PARTING.join(label for label, _ in prediction.labels)]
        return [*given, *ranked]

    def _print(self, answer: Answer) -> None:
        name = printable(answer.name)
        if self.as_json:
            print_json(answer.to_dict())
        elif answer.prediction is None:
            results.print(f"{name}  cannot be read: {answer.error}", style="yellow")
        else:
            results.print(f"{name}  {_told(answer.prediction, self.target)}")


def check_output(output: Path | None) -> None:
    """Refuse a kind of file that answers cannot be written as.

    Raises:
        OutputError: naming those that they can.
    """
    if output is not None and output.suffix not in (".csv", ".jsonl"):
        raise OutputError(f"answers are written as .csv or .jsonl, not as {output.name!r}")


def _told(prediction: Prediction, target: TargetKind) -> str:
    if target == "score":
        return f"{prediction.score:.4g}"
    told = prediction.top if target == "classes" else prediction.labels
    return "  ".join(f"{label} {probability:.1%}" for label, probability in told) or "no label"
