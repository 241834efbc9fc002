"""Write embeddings as lines of JSON, to a .csv file, or at the end to an .npz file."""

import io
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np

from megavit.cli.console import print_json
from megavit.cli.writers.line_file import LineFile
from megavit.predict.forward import EmbeddingResult
from megavit.runtime.storage import write_file, writing

WHAT = "the embeddings"


class EmbeddingWriter:
    """A writer of embeddings to a new .csv or .npz file, or as JSON to standard output without a path.

    Raises:
        OutputError: if the file cannot be written.
    """

    def __init__(self, path: Path | None, dim: int) -> None:
        self.path, self.dim = path, dim
        self._embeddings: list[EmbeddingResult] = []
        is_csv = path is not None and path.suffix == ".csv"
        self._file = LineFile(path, WHAT, ["path", *range(dim), "error"]) if path is not None and is_csv else None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._file is not None:
            self._stack.enter_context(self._file)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        if self.path is not None and kind is None and self._embeddings:
            with writing(WHAT, self.path):
                write_file(self.path, self._to_npz())

    def write(self, embedding: EmbeddingResult) -> None:
        vector = None if embedding.vector is None else embedding.vector.tolist()
        if self._file is not None:
            numbers = [""] * self.dim if vector is None else map(repr, vector)
            self._file.write([embedding.name, *numbers, embedding.error or ""])
        elif self.path is not None:
            self._embeddings.append(embedding)
        else:
            error = {"error": embedding.error} if embedding.error else {}
            print_json({"path": embedding.name} | ({} if vector is None else {"embedding": vector}) | error)

    def _to_npz(self) -> bytes:
        good = [(result.name, result.vector.numpy()) for result in self._embeddings if result.vector is not None]
        bad = [(result.name, result.error or "") for result in self._embeddings if result.vector is None]
        buffer = io.BytesIO()
        np.savez(
            buffer,
            path=np.array([name for name, _ in good], dtype=np.str_),
            embedding=np.stack([vector for _, vector in good]) if good else np.empty((0, self.dim), np.float32),
            failed=np.array([name for name, _ in bad], dtype=np.str_),
            error=np.array([reason for _, reason in bad], dtype=np.str_),
        )
        return buffer.getvalue()
