"""Answers as they come: lines on the terminal, or rows of a CSV or JSONL file."""

import csv
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from megavit.cli.output import print_json, results
from megavit.errors import OutputError
from megavit.predict.predictor import Answer
from megavit.runtime.storage import writing


class AnswerWriter:
    """Writes each answer at once, so that what was computed is never lost.

    Args:
        output: a new .csv or .jsonl file, or None for standard output.
        as_json: JSON lines on standard output.
        top: classes of each answer, which is the number of column pairs of a CSV.

    Raises:
        OutputError: when `output` is there already, has another suffix, or cannot be written.
    """

    def __init__(self, output: Path | None, *, as_json: bool, top: int) -> None:
        self.output, self.as_json, self.top = output, as_json, top
        if output is not None and output.suffix not in (".csv", ".jsonl"):
            raise OutputError(f"answers are written as .csv or .jsonl, not as {output.name!r}")
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
            ranks = [f"{what}_{rank}" for rank in range(2, self.top + 1) for what in ("label", "probability")]
            self._table.writerow(["path", "label", "probability", *ranks, "error"])
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

    def _row(self, answer: Answer) -> list[str]:
        top = answer.prediction.top if answer.prediction else ()
        cells = [text for label, probability in top for text in (label, f"{probability:.6f}")]
        cells += [""] * (2 * self.top - len(cells))
        return [answer.name, *cells, answer.error or ""]

    def _print(self, answer: Answer) -> None:
        # A newline or an escape sequence in a file name must not write to the terminal for itself.
        name = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in answer.name)
        if self.as_json:
            print_json(answer.to_dict())
        elif answer.prediction is None:
            results.print(f"{name}  cannot be read: {answer.error}", style="yellow")
        else:
            ranked = "  ".join(f"{label} {probability:.1%}" for label, probability in answer.prediction.top)
            results.print(f"{name}  {ranked}")
