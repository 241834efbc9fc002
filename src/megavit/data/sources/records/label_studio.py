"""Read the choices of Label Studio's exports, JSON and JSON-MIN, as labels of whole images."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from megavit.config.recipe import DataRecipe
from megavit.data.sources.image_root import SAMPLE, find_image_root
from megavit.data.sources.path_resolver import PathResolver
from megavit.data.sources.records.examples import Examples
from megavit.errors import DataError

_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file


def is_label_studio(content: Any) -> bool:
    """Return whether the content of a JSON file is a list of Label Studio's tasks."""
    first = content[0] if isinstance(content, list) and content else None
    if not isinstance(first, dict):
        return False
    return (isinstance(first.get("data"), dict) and "annotations" in first) or "annotation_id" in first


def read_label_studio(tasks: list[Any], path: Path, recipe: DataRecipe) -> Examples:
    """Return the images of tasks with their choices; tasks without any are left out.

    Raises:
        DataError: if a task is annotated with something else, or differently by two people.
    """
    source = str(path)
    found = [(task, choices) for task in tasks if (choices := _choices(task, source))]
    if not found:
        raise DataError(f"{source!r} has no choices: label the images by a <Choices> control, and export as JSON")
    urls = [_image(task, source) for task, _ in found]
    is_multilabel = any(len(choices) > 1 for _, choices in found)
    labels = [tuple(sorted(choices)) if is_multilabel else next(iter(choices)) for _, choices in found]
    notes = [f"{len(tasks) - len(found):,} tasks without choices are left out"] if len(found) < len(tasks) else []
    if is_multilabel:
        notes.append("some images have several choices, so an image may have any number of labels")
    paths = _local_paths(urls, path, recipe)
    rows = [(name, label, None) for name, label in zip(paths, labels, strict=True)]
    return Examples(rows, kind="multilabel" if is_multilabel else "classification", notes=tuple(notes), unit="task")


def _choices(task: Any, source: str) -> frozenset[str]:
    if not isinstance(task, dict):
        raise DataError(f"{source!r} must be a list of tasks, got {str(task)[:80]!r}")
    if "annotation_id" in task:  # JSON-MIN
        value = task.get("choice") or ()
        value = value.get("choices", ()) if isinstance(value, dict) else [value] if isinstance(value, str) else value
        return frozenset(map(str, value))
    answers = {answer for annotation in task.get("annotations") or [] if (answer := _answer(annotation, task, source))}
    if len(answers) > 1:
        first, second = (", ".join(sorted(answer)) for answer in sorted(answers, key=sorted)[:2])
        raise DataError(
            f"the task {task.get('id')} of {source!r} is annotated as {first!r} and as {second!r}: keep one of them"
        )
    return next(iter(answers), frozenset())


def _answer(annotation: dict[str, Any], task: dict[str, Any], source: str) -> frozenset[str]:
    if annotation.get("was_cancelled"):
        return frozenset()
    choices: set[str] = set()
    for result in annotation.get("result") or []:
        kind = result.get("type")
        if kind != "choices":
            raise DataError(
                f"the task {task.get('id')} of {source!r} has {kind!r}, but only choices can be labels of images: "
                "export a project that has them"
            )
        choices.update(map(str, result.get("value", {}).get("choices", ())))
    return frozenset(choices)


def _image(task: dict[str, Any], source: str) -> str:
    data = task.get("data") if isinstance(task.get("data"), dict) else task
    assert isinstance(data, dict)
    names = [name for name in data if name.lower() in ("image", "img", "picture", "photo", "url")]
    if len(names) != 1 or not isinstance(data[names[0]], str):
        raise DataError(f"the task {task.get('id')} of {source!r} must have its image under the name image")
    return data[names[0]]


def _local_paths(urls: list[str], path: Path, recipe: DataRecipe) -> list[str]:
    """Return the names of files on this machine: those that Label Studio serves, or those that were uploaded to it."""
    for variant in (_served, _uploaded):
        names = [variant(url) for url in urls]
        first = names[:SAMPLE]
        root = find_image_root(path.parent, first, recipe.image_root, str(path))
        resolver = PathResolver(path.parent, root)
        if any((path.parent / resolver.find(name)).is_file() for name in first):
            return names
    return [_served(url) for url in urls]


def _served(url: str) -> str:
    parts = urlsplit(url)
    if "d" in (query := parse_qs(parts.query)):  # /data/local-files/?d=folder/1.jpg
        return query["d"][0]
    return unquote(parts.path).rpartition("/")[2] if parts.scheme or parts.path.startswith("/data/") else url


def _uploaded(url: str) -> str:
    return _UPLOAD_PREFIX.sub("", _served(url), count=1)
