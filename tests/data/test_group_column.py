"""A column that defines subgroups has a value for every image, in each kind of data that has columns."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from megavit.config.recipe import DataRecipe
from megavit.data.group_column import read_group_column
from megavit.data.load import load_data
from megavit.data.sources.table_options import Table
from megavit.errors import DataError

NAMES = [f"{number:03d}" for number in range(12)]
LABELS = ["cat" if number % 2 else "dog" for number in range(12)]
CAMERAS = ["north", "south", "north", None] * 3


def encoded(number: int) -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 9, 3), np.uint8)).save(target, "PNG")
    return target.getvalue()


def write_images(folder: Path, *numbers: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers or range(12):
        (folder / f"{NAMES[number]}.png").write_bytes(encoded(number))


def rows(name: str = "image", *numbers: int) -> list[dict[str, object]]:
    return [
        {name: f"{NAMES[number]}.png", "label": LABELS[number], "Camera": CAMERAS[number]}
        for number in numbers or range(12)
    ]


def csv_text(records: list[dict[str, object]]) -> str:
    lines = [",".join(records[0]), *(",".join(str(cell or "") for cell in record.values()) for record in records)]
    return "\n".join(lines) + "\n"


def a_table(root: Path) -> Path:
    write_images(root / "photos")
    (root / "data.csv").write_text(csv_text(rows()))
    return root / "data.csv"


def a_table_with_options(root: Path) -> Table:
    write_images(root / "photos")
    (root / "data.csv").write_text(csv_text([{"a": row["image"], "b": row["label"], **row} for row in rows("image")]))
    return Table(root / "data.csv", path_column="a", label_column="b", image_root=root / "photos")


def json_lines(root: Path) -> Path:
    write_images(root / "photos")
    (root / "data.jsonl").write_text("\n".join(map(json.dumps, rows())))
    return root / "data.jsonl"


def a_json_list(root: Path) -> Path:
    write_images(root)
    (root / "data.json").write_text(json.dumps(rows()))
    return root / "data.json"


def metadata(root: Path) -> Path:
    write_images(root)
    (root / "metadata.csv").write_text(csv_text(rows("file_name")))
    return root


def metadata_by_split(root: Path) -> Path:
    for split, numbers in (("train", range(8)), ("validation", (8, 9)), ("test", (10, 11))):
        write_images(root / split, *numbers)
        (root / split / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows("file_name", *numbers))))
    return root


def parquet(root: Path) -> Path:
    arrow = pytest.importorskip("pyarrow")
    write_images(root / "photos")
    pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows()), root / "data.parquet")
    return root / "data.parquet"


def parquet_with_images_by_split(root: Path) -> Path:
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parts = {"train-00000-of-00002": range(5), "train-00001-of-00002": range(5, 8), "val": (8, 9), "test": (10, 11)}
    for name, numbers in parts.items():
        records = rows("image", *numbers)
        for number, record in zip(numbers, records, strict=True):
            record["image"] = {"bytes": encoded(number)}
        writer.write_table(arrow.Table.from_pylist(records), root / f"{name}.parquet")
    return root


def a_frame(root: Path):
    pandas = pytest.importorskip("pandas")
    write_images(root)
    return pandas.DataFrame([{**row, "image": str(root / str(row["image"]))} for row in rows()])


def frames_by_split(root: Path):
    frame = a_frame(root)
    return {"train": frame[:8], "val": frame[8:10], "test": frame[10:]}


SOURCES = [
    *(a_table, a_table_with_options, json_lines, a_json_list, metadata, metadata_by_split, parquet),
    *(parquet_with_images_by_split, a_frame, frames_by_split),
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_every_image_has_its_value_under_its_name(source, tmp_path):
    data = source(tmp_path)
    images = load_data(data, DataRecipe())
    column = read_group_column(data, "camera")
    values = {images.load_pixels(sample).numpy().tobytes(): column.values[sample.name] for sample in images.samples}
    for number, camera in enumerate(CAMERAS):
        pixels = np.asarray(Image.open(io.BytesIO(encoded(number)))).transpose(2, 0, 1)
        assert values[pixels.tobytes()] == (camera or "")
    with pytest.raises(DataError, match="has no column 'lens'; its other columns are"):
        read_group_column(data, "lens")


def a_folder(root: Path) -> Path:
    write_images(root / "cat")
    return root


def coco(root: Path) -> Path:
    (root / "coco.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    return root / "coco.json"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (lambda _: "demo:digits", r"(?s)--group-by camera needs a table, but 'demo:digits' .*path,label,camera"),
        (a_folder, "--group-by camera needs a table"),
        (lambda _: (np.zeros((2, 8, 8), np.uint8), ["a", "b"]), "but 'images in memory' is not one"),
        (lambda root: root / "nothing.csv", "--group-by camera needs a table"),
        (coco, "is an export of annotations, which has no columns: list its images in a table"),
    ],
)
def test_data_without_columns_is_refused_with_what_is_needed(source, said, tmp_path):
    with pytest.raises(DataError, match=said):
        read_group_column(source(tmp_path), "camera")


def test_an_image_with_two_values_is_refused(tmp_path):
    path = json_lines(tmp_path)
    path.write_text(path.read_text() + "\n" + json.dumps({**rows()[0], "Camera": "east"}))
    with pytest.raises(
        DataError, match=r"row 12: camera of 'photos/000.png' is 'east', but an earlier row has 'north'"
    ):
        read_group_column(path, "camera")


def test_columns_of_0_and_1_beside_class_folders_are_features_and_not_classes(tmp_path):
    for name, label in zip(range(12), LABELS, strict=True):
        write_images(tmp_path / label, name)
    lines = [
        f"{label}/{name}.png,{number % 3 % 2},0" for number, (name, label) in enumerate(zip(NAMES, LABELS, strict=True))
    ]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,blurred,flash", *lines]))
    assert load_data(tmp_path, DataRecipe()).classes == ("cat", "dog")
