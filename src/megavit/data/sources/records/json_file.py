"""Read JSON files: lines or lists of records, and the exports of COCO and Label Studio."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from megavit.config.recipe import DataRecipe
from megavit.data.sources.records.coco import is_coco, read_coco
from megavit.data.sources.records.columns import Records, read_records
from megavit.data.sources.records.examples import Examples
from megavit.data.sources.records.label_studio import is_label_studio, read_label_studio
from megavit.errors import DataError
from megavit.runtime.csv_files import MAX_ROW_LENGTH, EncodingError, find_encoding

MAX_JSON_BYTES = 2**29
JSON_LINES = (".jsonl", ".ndjson")


def read_json(path: Path, recipe: DataRecipe) -> Examples:
    """Return the examples of a .json, .jsonl or .ndjson file; raise a DataError if it is of another kind."""
    content = _read_content(path)
    if is_coco(content):
        return read_coco(content, str(path))
    if is_label_studio(content):
        return read_label_studio(content, path, recipe)
    return read_records(_records(path, content), recipe)


def open_json(path: Path) -> Records:
    """Return the records of a file, or raise a DataError if it is of another kind or an export without columns."""
    content = _read_content(path)
    if is_coco(content) or is_label_studio(content):
        raise DataError(f"{str(path)!r} is an export of annotations, which has no columns: list its images in a table")
    return _records(path, content)


def _read_content(path: Path) -> Any:
    if path.suffix.lower() in JSON_LINES:
        return list(_iter_lines(path))
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise DataError(f"{str(path)!r} exceeds the limit of {MAX_JSON_BYTES // 2**20} MiB: save it as JSON lines")
        return _parse(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def _records(path: Path, records: Any) -> Records:
    if not isinstance(records, list):
        raise DataError(
            f"{str(path)!r} is no table: a JSON file can be a list of records such as "
            '[{"path": "1.jpg", "label": "cat"}], a COCO file with images, annotations and categories, or an export of '
            "Label Studio"
        )
    names: dict[str, None] = {}
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise DataError(f"record {number} of {str(path)!r} must be an object, got {str(record)[:80]!r}")
        names |= dict.fromkeys(record)
    columns = tuple(names)
    if not columns:
        raise DataError(f"{str(path)!r} has no records")

    def read(indices: Sequence[int]) -> Iterator[Sequence[object]]:
        return ([record.get(columns[index]) for index in indices] for record in records)

    return Records(str(path), columns, read)


def _iter_lines(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as file:
            encoding = find_encoding(file.read(8))
        with path.open(encoding=encoding, newline="\n") as text:
            number = 0
            while line := text.readline(MAX_ROW_LENGTH + 1):
                number += 1
                if len(line) > MAX_ROW_LENGTH:
                    raise DataError(f"{str(path)!r}, line {number}: more than {MAX_ROW_LENGTH:,} characters")
                if line.strip():
                    yield _parse(line, f"{path}, line {number}")
    except (EncodingError, UnicodeDecodeError) as error:
        raise DataError(f"{str(path)!r} is not UTF-8 text: save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def _parse(text: bytes | str, name: str) -> Any:
    try:
        return json.loads(text)
    except UnicodeDecodeError:
        raise DataError(f"{name!r} is not UTF-8 text: save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name!r} is not valid JSON: {error}") from error
