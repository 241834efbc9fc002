"""Parquet files and data sets of Hugging Face, written by the packages themselves."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data
from megavit.errors import DataError

CLASSES = ["zebra", "ant"]


def encoded(number: int) -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 9, 3), np.uint8)).save(target, "PNG")
    return target.getvalue()


@pytest.fixture
def pyarrow():
    pytest.importorskip("pyarrow.parquet")
    return pytest.importorskip("pyarrow")


@pytest.fixture
def datasets(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
    found = pytest.importorskip("datasets")
    monkeypatch.setattr(found.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    found.disable_progress_bars()
    return found


def make_data_set(datasets, count: int = 12):
    features = datasets.Features({"img": datasets.Image(), "fine": datasets.ClassLabel(names=CLASSES)})
    columns = {
        "img": [{"bytes": encoded(number), "path": None} for number in range(count)],
        "fine": [number % 2 for number in range(count)],
    }
    return datasets.Dataset.from_dict(columns, features=features)


def test_images_within_parquet_are_read(pyarrow, tmp_path):
    table = pyarrow.table(
        {
            "image": [{"bytes": encoded(number), "path": f"{number}.png"} for number in range(12)],
            "label": ["a", "b"] * 6,
            "split": ["train"] * 8 + ["val"] * 2 + ["test"] * 2,
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "data.parquet")
    images = load_data(tmp_path / "data.parquet", DataRecipe())
    assert (images.classes, images.root) == (("a", "b"), None)
    assert images.split_sizes() == {"train": 8, "val": 2, "test": 2}
    for number, sample in enumerate(images.samples):
        pixels = np.asarray(Image.open(io.BytesIO(encoded(number))))
        assert np.array_equal(images.load_pixels(sample).permute(1, 2, 0).numpy(), pixels)


def test_paths_in_parquet_are_beside_it(pyarrow, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(12):
        (tmp_path / "photos" / f"{number}.png").write_bytes(encoded(number))
    table = pyarrow.table({"id": list(range(12)), "species": ["a", "b"] * 6})
    pyarrow.parquet.write_table(table, tmp_path / "data.parquet")
    images = load_data(tmp_path / "data.parquet", DataRecipe())
    assert images.root == tmp_path and images.samples[0].name == "photos/0.png"


def test_columns_of_0_and_1_in_parquet_are_classes(pyarrow, tmp_path):
    columns = {
        "image": [{"bytes": encoded(number), "path": None} for number in range(12)],
        "ant": [number % 2 for number in range(12)],
        "zebra": [number % 2 == 0 for number in range(12)],
        "split": ["train"] * 8 + ["val"] * 2 + ["test"] * 2,
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "data.parquet")
    images = load_data(tmp_path / "data.parquet", DataRecipe())
    assert (images.classes, images.split_sizes()) == (("ant", "zebra"), {"train": 8, "val": 2, "test": 2})
    assert [sample.label for sample in images.samples[:3]] == [1, 0, 1]


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"PAR1" + b"x" * 100 + b"PAR1"])
def test_a_damaged_parquet_file_is_refused(pyarrow, tmp_path, damage):
    (tmp_path / "data.parquet").write_bytes(damage)
    with pytest.raises(DataError, match=r"the Parquet file .* cannot be read"):
        load_data(tmp_path / "data.parquet", DataRecipe())


@pytest.mark.parametrize(("package", "extra"), [("pyarrow.parquet", "parquet"), ("datasets", "datasets")])
def test_without_its_package_the_command_that_installs_it_is_said(package, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "data.parquet").touch()
    source = tmp_path / "data.parquet" if extra == "parquet" else f"hf:{tmp_path}"
    with pytest.raises(DataError, match=rf'pip install "megavit\[{extra}\]"'):
        load_data(source, DataRecipe())


def test_a_data_set_of_hugging_face_is_read_with_its_features(datasets):
    data = make_data_set(datasets)
    images = load_data(data, DataRecipe())
    assert images.classes == tuple(CLASSES)
    assert [sample.label for sample in images.samples[:3]] == [0, 1, 0]
    by_split = datasets.DatasetDict({"train": data, "validation": data.select(range(4)), "test": data.select(range(2))})
    assert load_data(by_split, DataRecipe()).split_sizes() == {"train": 12, "val": 4, "test": 2}


@pytest.mark.parametrize("by_name", [True, False])
def test_a_folder_as_on_the_hub_is_read_by_either_package(datasets, pyarrow, tmp_path, by_name):
    data, folder = make_data_set(datasets), tmp_path / "data"
    folder.mkdir()
    data.to_parquet(folder / "train-00000-of-00002.parquet")
    make_data_set(datasets, 14).select(range(12, 14)).to_parquet(folder / "train-00001-of-00002.parquet")
    data.select(range(4)).to_parquet(folder / "test-00000-of-00001.parquet")
    images = load_data(f"hf:{tmp_path}" if by_name else tmp_path, DataRecipe(val=0))
    assert images.classes == tuple(CLASSES)
    assert images.split_sizes() == {"train": 14, "val": 0, "test": 4}


def test_a_data_set_that_cannot_be_loaded_is_said(datasets, tmp_path: Path):
    with pytest.raises(DataError, match=r"the data set .* cannot be loaded"):
        load_data(f"hf:{tmp_path / 'nowhere'}", DataRecipe())
