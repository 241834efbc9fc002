"""Read the categories of COCO annotations as labels of whole images."""

from collections import Counter, defaultdict
from typing import Any

from megavit.data.sources.records.examples import Example, Examples
from megavit.errors import DataError


def is_coco(content: Any) -> bool:
    """Return whether the content of a JSON file has COCO's images and annotations."""
    return isinstance(content, dict) and isinstance(content.get("images"), list) and "annotations" in content


def read_coco(content: dict[str, Any], source: str) -> Examples:
    """Return the images with their categories: one class each if none has several, or else any number of labels.

    Raises:
        DataError: if images, annotations and categories do not fit together, or annotations have no categories.
    """
    names = _category_names(content, source)
    files = _by_id(content["images"], "images", source)
    categories: dict[Any, set[str]] = defaultdict(set)
    has_boxes = False
    for number, annotation in enumerate(content["annotations"] or []):
        if not isinstance(annotation, dict) or "category_id" not in annotation:
            raise DataError(
                f"annotation {number} of {source!r} has no category_id, as captions and keypoints have none: only "
                "categories can be labels of images"
            )
        image, category = annotation.get("image_id"), annotation["category_id"]
        if image not in files or category not in names:
            what = f"image {image!r}" if image not in files else f"category {category!r}"
            raise DataError(f"annotation {number} of {source!r} is of the {what}, which the file does not list")
        categories[image].add(names[category])
        has_boxes = has_boxes or bool(annotation.get("bbox") or annotation.get("segmentation"))
    is_multilabel = any(len(found) > 1 for found in categories.values())
    rows: list[Example] = [
        (file, tuple(sorted(categories[image])) if is_multilabel else next(iter(categories[image])), None)
        for image, file in files.items()
        if image in categories or is_multilabel
    ]
    if not rows:
        raise DataError(f"{source!r} has no annotations")
    notes = []
    if has_boxes:
        notes.append("boxes and outlines are not used: an image has the labels of all that are in it")
    if is_multilabel:
        notes.append("some images have several categories, so an image may have any number of labels")
    elif len(rows) < len(files):
        notes.append(f"{len(files) - len(rows):,} images without annotations are left out")
    return Examples(rows, kind="multilabel" if is_multilabel else "classification", notes=tuple(notes))


def _category_names(content: dict[str, Any], source: str) -> dict[Any, str]:
    categories = content.get("categories")
    if not isinstance(categories, list) or not all(
        isinstance(category, dict) and "id" in category and str(category.get("name", "")).strip()
        for category in categories
    ):
        raise DataError(f"{source!r} must have categories with an id and a name each, as COCO files do")
    counts = Counter(str(category["name"]) for category in categories)
    names = {category["id"]: str(category["name"]) for category in categories}
    return {index: f"{name} ({index})" if counts[name] > 1 else name for index, name in names.items()}


def _by_id(images: list[Any], what: str, source: str) -> dict[Any, str]:
    files: dict[Any, str] = {}
    for number, image in enumerate(images):
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str) or "id" not in image:
            raise DataError(f"item {number} of {what} in {source!r} must have an id and a file_name")
        files[image["id"]] = image["file_name"]
    return files
