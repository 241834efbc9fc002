"""Embeddings as they come: JSON lines, rows of a CSV file, or arrays of an .npz file."""

import contextlib
import io
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np

from megavit.cli.console import print_json
from megavit.errors import OutputError
from megavit.predict.forward import EmbeddingResult
from megavit.runtime.csv_files import CsvWriter
from megavit.runtime.storage import write_file, writing


class VectorWriter:
    """Writes each embedding at once to a .csv or to standard output; an .npz is written as a whole at the end.

    Args:
        out: as `check_vectors` lets it pass, or None for standard output.
        dim: numbers of an embedding.

    Raises:
        OutputError: when `out` cannot be written.
    """

    def __init__(self, out: Path | None, dim: int) -> None:
        self.out, self.dim = out, dim
        self._all: list[EmbeddingResult] = []
        self._stack = ExitStack()
        self._table: Any = None

    def __enter__(self) -> Self:
        if self.out is not None and self.out.suffix == ".csv":
            with writing("the embeddings", self.out):
                opened = self.out.open("x", buffering=1, encoding="utf-8", errors="surrogateescape", newline="")
            self._table = CsvWriter(self._stack.enter_context(opened))
            try:
                with writing("the embeddings", self.out):
                    self._table.writerow(["path", *range(self.dim), "error"])
            except OutputError:
                with contextlib.suppress(OSError):
                    self._stack.close()
                self.out.unlink(missing_ok=True)
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.out is None:
            return
        with writing("the embeddings", self.out):
            self._stack.close()
            if self._table is None and kind is None and self._all:
                write_file(self.out, self._arrays())

    def write(self, embedding: EmbeddingResult) -> None:
        if self.out is None:
            vector = {} if embedding.vector is None else {"embedding": embedding.vector.tolist()}
            print_json({"path": embedding.name, **vector} | ({"error": embedding.error} if embedding.error else {}))
        elif self._table is None:
            self._all.append(embedding)
        else:
            with writing("the embeddings", self.out):
                numbers = [""] * self.dim if embedding.vector is None else map(repr, embedding.vector.tolist())
                self._table.writerow([embedding.name, *numbers, embedding.error or ""])

    def _arrays(self) -> bytes:
        good = [(one.name, one.vector.numpy()) for one in self._all if one.vector is not None]
        bad = [(one.name, one.error or "") for one in self._all if one.vector is None]
        buffer = io.BytesIO()
        np.savez(
            buffer,
            path=np.array([name for name, _ in good], dtype=np.str_),
            embedding=np.stack([vector for _, vector in good]) if good else np.empty((0, self.dim), np.float32),
            failed=np.array([name for name, _ in bad], dtype=np.str_),
            error=np.array([reason for _, reason in bad], dtype=np.str_),
        )
        return buffer.getvalue()


def check_vectors(out: Path | None) -> None:
    """Refuse a file that embeddings cannot be written to, before they are computed.

    Raises:
        OutputError: when it is there already, or has another suffix than .npz or .csv.
    """
    if out is not None and out.suffix not in (".npz", ".csv"):
        raise OutputError(f"embeddings are written as .npz or .csv, not as {out.name!r}")
    if out is not None and out.exists():
        raise OutputError(f"{out} is there already; move it away or choose another name")
